"""Zero-shot evaluation of many labelled sets: UniMed-CLIP's 21."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn import metrics
from torch.nn import functional as F

from medvlp.data.catalogue_sets import MODALITIES, Registry
from medvlp.evaluation.results import Results
from medvlp.evaluation.zero_shot_catalogue import ZeroShotCatalogue, classifier_of
from medvlp.types import Tokens

from .test_zero_shot import HashTokenizer

WIDTH = 600  # more than there are different prompts
CPU = torch.device("cpu")
SETS = Registry.load().sets
AVERAGED = Registry.load().averaged


def embed_text(tokens: Tokens) -> torch.Tensor:
    """Text n points along axis n."""
    return F.one_hot(tokens.input_ids[:, 0], WIDTH).float()


class Counted(HashTokenizer):
    """Remembers every text it was ever asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> Tokens:
        self.asked += texts
        return super().__call__(texts)


def make(**changes: Any) -> ZeroShotCatalogue:
    options: dict[str, Any] = {"num_resamples": 20, **changes}
    measure = ZeroShotCatalogue(Counted(), **options)
    measure.prepare(embed_text, torch.tensor([2.0]), CPU)
    return measure


def images_of(
    measure: ZeroShotCatalogue, names: list[str], per_class: int = 4, noise: float = 0.4
) -> tuple[torch.Tensor, list[dict[str, str]]]:
    """Embeddings that point, with noise, to the prompts of their class, and their metadata."""
    generator = torch.Generator().manual_seed(0)
    embeddings, metadata = [], []
    for name in names:
        one = SETS[name]
        classes = measure._classifiers[[s.name for s in measure.sets].index(name)]
        truth = torch.arange(len(one.classes)).repeat(per_class)
        embeddings.append(
            classes[truth] + noise * torch.randn(len(truth), WIDTH, generator=generator)
        )
        metadata += [
            {"dataset": name, "modality": one.modality, "label": str(k)} for k in truth.tolist()
        ]
    return F.normalize(torch.cat(embeddings), dim=-1), metadata


def batch_of(metadata: list[dict[str, str]], ids: list[str]) -> Any:
    return {
        "image": torch.zeros(len(ids), 1, 1, 1),
        "num_scans": torch.ones(len(ids), dtype=torch.long),
        "study_id": ids,
        "sample_id": ids,
        "patient_id": ids,
        "recipe_hash": "recipe",
        "labels": torch.zeros(len(ids), 0, dtype=torch.long),
        "metadata": metadata,
    }


def rows_of(measure: ZeroShotCatalogue, names: list[str], **options: Any) -> list[dict[str, Any]]:
    measure.reset()
    embedding, metadata = images_of(measure, names, **options)
    numbers: Counter[str] = Counter()
    ids = []
    for row in metadata:
        ids.append(f"{row['dataset']}/{numbers[row['dataset']]:03}")
        numbers[row["dataset"]] += 1
    measure.update(embedding, batch_of(metadata, ids))
    return measure.rows()


def run(names: list[str] = AVERAGED, **changes: Any) -> Results:
    measure = make(**changes)
    return measure.compute(rows_of(measure, names))


def macro(results: Results, name: str) -> dict[str, float]:
    figures = next(one for one in results.macros if one.name == name).figures
    return {key: one.value for key, one in figures.items()}


def test_every_different_prompt_is_encoded_once() -> None:
    measure = make()
    tokenizer = measure.tokenizer
    assert isinstance(tokenizer, Counted)
    wanted = {text for one in measure._texts for sentences in one for text in sentences}
    assert len(tokenizer.asked) == len(wanted)
    assert set(tokenizer.asked) == wanted
    pneumonia = measure.prompts.sets["RSNA_CLASS_PROMPTS_webdataset"]["Pneumonia"]
    assert pneumonia[0] in wanted and pneumonia[1] not in wanted


def test_a_class_vector_is_the_mean_of_its_prompts() -> None:
    measure = make(registry="unimed21")
    place = [one.name for one in measure.sets].index("refuge_retina")
    healthy, glaucoma = measure._classifiers[place]
    assert healthy.count_nonzero() == 10 and glaucoma.count_nonzero() == 5
    assert torch.allclose(glaucoma[glaucoma > 0], torch.tensor(5**-0.5))


def test_figures_of_each_set_are_those_of_scikit_learn() -> None:
    measure = make()
    rows = rows_of(measure, AVERAGED)
    results = measure.compute(rows)
    for name in AVERAGED:
        own = sorted((r for r in rows if r["dataset"] == name), key=lambda r: r["sample_id"])
        columns = [c for c, text in enumerate(measure.class_names) if text.startswith(f"{name}: ")]
        scores = np.stack([row["scores"] for row in own])[:, columns]
        truth = np.array([int(row["label"]) for row in own])
        found = macro(results, name)
        assert found["acc"] == pytest.approx((scores.argmax(axis=1) == truth).mean())
        assert found["n"] == len(own)
        assert found["chance"] == found["largest_class"] == 1 / len(columns)
        assert ("auc_roc" in found) == SETS[name].two_class
        if SETS[name].two_class:
            area = metrics.roc_auc_score(truth, scores[:, 1] - scores[:, 0])
            assert found["auc_roc"] == pytest.approx(area)
            precision = metrics.average_precision_score(truth, scores[:, 1] - scores[:, 0])
            assert found["ap"] == pytest.approx(precision)
            assert found["ap_skill"] == pytest.approx(2 * precision - 1)  # half are positive
    assert 0.3 < macro(results, "mean")["acc"] < 1


def test_means_over_all_sets_and_over_modalities() -> None:
    results = run()
    sets = {name: macro(results, name) for name in AVERAGED}
    mixed = {name: own.get("auc_roc", own["acc"]) for name, own in sets.items()}
    assert [one.name for one in results.macros[:7]] == [
        *("mean", "xray", "mri", "ultrasound", "ct", "fundus", "pathology")
    ]
    for name in ("mean", *MODALITIES):
        members = [n for n in AVERAGED if name in ("mean", SETS[n].modality)]
        found = macro(results, name)
        assert found["n_sets"] == len(members)
        assert found["acc"] == pytest.approx(np.mean([sets[n]["acc"] for n in members]))
        assert found["mixed"] == pytest.approx(np.mean([mixed[n] for n in members]))
    flat = results.metrics()
    assert flat["mean_acc"] == macro(results, "mean")["acc"]
    assert flat["mean_mixed"] == macro(results, "mean")["mixed"]
    mean = results.macros[0].figures["acc"]
    assert mean.low < mean.value < mean.high
    assert results.skipped == {}
    leaks = [note for note in results.notes if note.startswith("possible leakage")]
    assert len(leaks) == 3
    known = "patients are known of chexpert-5x200, odir_retina; elsewhere each image counts as one"
    assert any(note.startswith(known) for note in results.notes)


def test_sets_at_chance_are_named() -> None:
    measure = make(num_resamples=200)
    rows = rows_of(measure, ["PCAM", "CT_axial"], per_class=20, noise=0.1)
    for number, row in enumerate(rows):
        if row["dataset"] == "PCAM":
            row["label"] = str(number // 2 % 2)  # as often right as wrong
    notes = measure.compute(rows).notes
    assert "balanced accuracy not above chance, by its interval: PCAM" in notes


def test_missing_sets_and_modalities_are_named() -> None:
    results = run(["PCAM", "BACH", "breast_us"])
    assert set(results.skipped) == set(AVERAGED) - {"PCAM", "BACH", "breast_us"}
    assert results.skipped["Osteo"] == "no image of it was scored"
    assert macro(results, "mean")["n_sets"] == 3
    assert math.isnan(macro(results, "ct")["acc"])
    assert "the mean is over 3 of 21 sets; missing: chexpert-5x200, " in results.notes[0]
    named = "no image of modality ct: give one of the sets CT_axial, CT_coronal, CT_sagittal"
    assert named in results.notes
    assert not any("modality ultrasound" in note for note in results.notes)


def test_a_set_outside_the_21_has_a_row_but_no_part_in_the_means() -> None:
    results = run(["dr_regular", "dr_uwf"])
    assert macro(results, "mean")["n_sets"] == macro(results, "fundus")["n_sets"] == 1
    assert macro(results, "dr_uwf")["n"] == 20
    assert "dr_uwf takes no part in the means" in results.notes


def test_a_class_without_prompts_leaves_its_set_out(tmp_path: Path) -> None:
    prompts = {"sets": {"BACH_prompts": {name: [name] for name in SETS["BACH"].classes}}}
    prompts["sets"]["PCAM"] = {SETS["PCAM"].classes[0]: ["a lymph node"]}
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump(prompts))
    with pytest.warns(UserWarning, match="is left out") as caught:
        results = run(["BACH"], prompts=str(path))
    reason = "has no prompt for the class Lymph node containing metastatic tumor tissue; write one"
    assert any(reason in str(w.message) and "PCAM is left" in str(w.message) for w in caught)
    assert reason in results.skipped["PCAM"]
    assert "no prompt set 'ct_scan_labels'" in results.skipped["CT_axial"]
    assert macro(results, "mean")["n_sets"] == 1
    path.write_text("sets: {}")
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(ValueError, match="no set of unimed21 has prompts"),
    ):
        make(prompts=str(path))


def test_images_without_a_set_or_a_sound_label_are_counted() -> None:
    measure = make()
    rows = rows_of(measure, ["PCAM"])
    rows[0]["label"], rows[1]["label"] = "2", ""
    rows[2]["dataset"] = "PCAN"
    rows.append(rows[3])
    results = measure.compute(rows)
    assert results.left_out == {
        "with a label outside the classes of their set": 2,
        "of no set of this evaluation": 1,
    }
    assert results.duplicates_dropped == 1
    assert results.num_samples == 5
    for row in rows:
        row["dataset"] = ""
    with pytest.raises(ValueError, match=r"no image can be scored \(8 of no set .*data=unimed21"):
        measure.compute(rows)
    with pytest.raises(ValueError, match="there are none"):
        measure.compute([])


def test_an_absent_class_has_no_auc() -> None:
    measure = make()
    rows = [
        row
        for row in rows_of(measure, ["acl_mri", "meniscal_mri"])
        if "acl" in row["dataset"] or row["label"] == "0"
    ]
    results = measure.compute(rows)
    assert math.isnan(macro(results, "meniscal_mri")["auc_roc"])
    assert macro(results, "mean")["mixed"] == macro(results, "acl_mri")["auc_roc"]
    named = "meniscal_mri: no image of class yes; its AUC is undefined: no part in the mixed mean"
    assert named in results.notes


def test_scores_that_are_not_finite_are_refused() -> None:
    measure = make()
    rows = rows_of(measure, ["PCAM"])
    rows[0]["scores"] = rows[0]["scores"] * np.nan
    with pytest.raises(ValueError, match="1 of 8 samples have scores that are not finite"):
        measure.compute(rows)


def test_class_norm_shifts_and_scales_images_as_classes() -> None:
    means = torch.tensor([[0.6, 0.0, 0.2], [0.2, 0.4, 0.2]])
    classes, (mean, std) = classifier_of(means, class_norm=True)
    half = 0.5**0.5
    assert torch.allclose(mean, torch.tensor([[0.4, 0.2, 0.2]]))
    assert torch.allclose(std[:, :2], torch.tensor([[0.4 * half, 0.4 * half]]))
    assert torch.allclose(classes, torch.tensor([[half, -half, 0.0], [-half, half, 0.0]]))
    measure = make(class_norm=True)
    rows = rows_of(measure, ["CT_axial"], noise=0.0)
    results = measure.compute(rows)
    assert results.protocol == "zero_shot_catalogue/unimed21 (class norm)"
    assert macro(results, "CT_axial")["acc"] == 1.0


def test_results_survive_the_file(tmp_path: Path) -> None:
    results = run(["PCAM", "CT_axial"])
    again = Results.from_json(results.to_json(tmp_path / "results.json"))
    assert again.notes == results.notes
    assert again.metrics()["mean_acc"] == results.metrics()["mean_acc"]
    assert results.predictions[0] == {
        "sample_id": "CT_axial/000",
        "patient_id": "CT_axial/000",
        "dataset": "CT_axial",
        "modality": "ct",
        "label": "heart",
        "prediction": results.predictions[0]["prediction"],
        "cosines": results.predictions[0]["cosines"],
    }
    assert len(results.predictions[0]["cosines"].split()) == 11


def test_scoring_needs_prepared_prompts() -> None:
    measure = ZeroShotCatalogue(HashTokenizer())
    with pytest.raises(RuntimeError, match="update before prepare"):
        measure.update(torch.zeros(1, WIDTH), {"sample_id": ["a"]})  # pyright: ignore[reportArgumentType]
