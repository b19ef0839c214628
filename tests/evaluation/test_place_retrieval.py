import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medvlp.evaluation.cascade_retrieval import CascadeRetrieval
from medvlp.evaluation.localisation import Localisation
from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.evaluation.place_retrieval import PlaceRetrieval
from medvlp.types import Tokens

TREE = {"Chest": {"A": {"x": "Ax", "y": "Ay"}, "B": {"x": "Bx"}}}
WORDS = "ABxy"
OF_COARSE = {f"localisation_{name}" for name in ("region", "coarse", "coarse_top1")}
OF_COARSE |= {"chance_coarse_top1_uniform", "coarse_calibration_ece", "region: Chest_coarse_top1"}


def tokenizer(texts: list[str]) -> Tokens:
    ids = torch.tensor([[WORDS.index(text[-1])] for text in texts])
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def embed(tokens: Tokens) -> torch.Tensor:
    return torch.eye(4)[tokens.input_ids[:, 0]]


def batch_of(*lesions: tuple[str, str], **more: Any) -> Any:
    names = [f"s/{number}" for number in range(len(lesions))]
    target = [
        {"box_mm": [0.0, 0.0, 0.0, 9.0, 9.0, 9.0], "place": place, "coarse": coarse}
        for place, coarse in lesions
    ]
    ids = {"sample_id": names, "patient_id": names, "study_id": names}
    return {**ids, "recipe_hash": "r", "target": target, **more}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    tree, texts = tmp_path / "tree.json", tmp_path / "texts.json"
    tree.write_text(json.dumps(TREE))
    texts.write_text(json.dumps({word: f"in {word}" for word in WORDS}))
    return str(tree), str(texts)


def measure(
    files: tuple[str, str], level: Any, image: torch.Tensor, batch: Any, **options: Any
) -> Any:
    options |= {"descriptions": files[1], "num_resamples": 5}
    if level == "both":
        evaluation = CascadeRetrieval(files[0], tokenizer, **options)
    else:
        evaluation = PlaceRetrieval(files[0], tokenizer, level=level, **options)
    evaluation.prepare(embed, torch.zeros(1), torch.device("cpu"))
    evaluation.update(image, batch)
    return evaluation.compute(evaluation.rows() * 2)


def test_the_coarse_stage_ranks_all_coarse_places(files: tuple[str, str]) -> None:
    image = torch.tensor([[1.0, 0.9, 0, 0], [0.9, 1.0, 0, 0], [1.0, 0, 0, 0]])
    batch = batch_of(("Ax", "A"), ("Ay", "A"), ("", ""))
    results = measure(files, "coarse", image, batch)
    metrics = results.metrics()
    assert metrics["localisation_coarse_top1"] == 0.5
    assert metrics["coverage_matched"] == pytest.approx(2 / 3)
    assert results.protocol == "localisation/coarse stage"
    assert results.duplicates_dropped == 3
    assert results.predictions[1]["coarse_labels"] == "B,A"


def test_the_fine_stage_ranks_what_lies_within_the_true_place(files: tuple[str, str]) -> None:
    image = torch.tensor([[0, 0, 0.1, 0.9], [0, 0, 0.1, 0.9]])
    results = measure(files, "fine", image, batch_of(("Ax", "A"), ("Bx", "B")))
    metrics = results.metrics()
    assert metrics["localisation_top1"] == metrics["region: Chest_top1"] == 0.5
    assert metrics["localisation_fine_given_coarse"] == 0.5  # the coarse places are the true ones
    assert metrics["localisation_tree_distance"] == 1
    assert metrics["chance_top1_within_coarse"] == 0.75
    assert OF_COARSE.isdisjoint(metrics)
    assert [note for note in results.notes if "the true ones are given" in note]
    assert results.predictions[0]["coarse_labels"] == "A"


def test_the_fine_stage_after_the_answers_of_the_coarse_one(
    files: tuple[str, str], tmp_path: Path
) -> None:
    table = tmp_path / "predictions.csv"
    table.write_text('sample_id,coarse_labels,coarse_probs\ns/0,"B,A","0.9,0.1"\n')
    image = torch.tensor([[0, 0, 0.1, 0.9], [0, 0, 0.1, 0.9]])
    batch = batch_of(("Ay", "A"), ("", ""))  # of the second there is no answer: it has no place
    results = measure(files, "both", image, batch, coarse=str(table))
    assert results.protocol == "localisation/cascade"
    assert results.metrics()["localisation_top1"] == 1
    assert results.metrics()["localisation_coarse_top1"] == 0
    assert set(results.metrics()) >= OF_COARSE
    assert not results.notes
    assert results.predictions[0]["coarse_probs"] == "0.9,0.1"
    first = measure(files, "both", image, batch, coarse=str(table), top_k=1)
    assert first.predictions[0]["pred"] == "Bx"
    with pytest.raises(ValueError, match=r"lacks the lesion s/1; .*splits\.test=all"):
        measure(files, "both", image, batch_of(("Ay", "A"), ("Ax", "A")), coarse=str(table))
    with pytest.raises(ValueError, match=r"set evaluation\.cascade\.coarse to its predictions"):
        measure(files, "both", image, batch)


def test_the_cascade_knows_the_sex_and_may_average_with_the_coarse_stage(
    files: tuple[str, str], tmp_path: Path
) -> None:
    table = tmp_path / "predictions.csv"
    table.write_text('sample_id,coarse_labels,coarse_probs\ns/0,"B,A","0.9,0.1"\n')
    one = torch.tensor([[0, 0, 0.1, 0.101]])  # the fine stage has y 52 to x 48
    batch = batch_of(("Ay", "A"))
    assert measure(files, "both", one, batch, coarse=str(table)).predictions[0]["pred"] == "Ay"
    fused = measure(files, "both", one, batch, coarse=str(table), fusion_threshold=0.9)
    assert fused.predictions[0]["pred"] == "Bx"

    women = {"x": "Ax", "y": {"name": "Ay", "sex": "F"}}
    tree = {"places": {"Chest": {"A": women, "B": {"x": "Bx"}}}}
    Path(files[0]).write_text(json.dumps(tree))
    for sex, named in (("F", "Ay"), ("female", "Ay"), ("", "Ay"), ("M", "Bx"), ("male", "Bx")):
        batch = batch_of(("Ay", "A"), metadata=[{"sex": sex}])
        found = measure(files, "both", one, batch, coarse=str(table))
        assert found.predictions[0]["pred"] == named


def test_answers_of_a_cascade(files: tuple[str, str]) -> None:
    evaluation = Localisation(files[0], num_resamples=5)
    answers = [PlaceAnswer(("Ax",), (0.9,), ("A",), (1.0,), ("x",), ("A",), (0.9,))]
    evaluation.update(answers, batch_of(("Ax,Bx", "A,B")))
    assert evaluation.compute(evaluation.rows()).metrics()["localisation_top1"] == 1
    evaluation.reset()
    assert evaluation.rows() == [] and evaluation.class_names == []
    with pytest.raises(ValueError, match="embeddings are for PlaceRetrieval"):
        evaluation.update(torch.zeros(1, 4), batch_of(("Ax", "A")))
    with pytest.raises(ValueError, match="0 of 1 samples are about a lesion"):
        evaluation.update(answers, batch_of(("Ax", "A")) | {"target": [None]})
