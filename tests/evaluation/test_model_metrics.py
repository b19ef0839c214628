import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from medvlp.evaluation import model_metrics
from medvlp.evaluation.cider import cider_d
from medvlp.evaluation.model_metrics import bert_scores, model_scores
from medvlp.evaluation.report_generation import text_macros

GENERATED = ["No nodule.", " ", "Effusion."]
TRUTH = ["No nodule.", "Nodule.", "No effusion."]


class Scorer:
    """Scores 1 where texts are equal, as the packages are called."""

    def __init__(self, *names: str, **options: object) -> None:
        self.levels = 3 if "reward_level" in options else 1

    def compute_score(self, generated: list[str], truth: list[str]) -> list[float]:
        assert all(generated) and all(truth)
        return [float(a == b) for a, b in zip(generated, truth, strict=True)]

    def __call__(self, refs: list[str], hyps: list[str]) -> tuple:
        scores = self.compute_score(hyps, refs)
        return (0.0, (scores,) * 3) if self.levels == 3 else (0.0, 0.0, scores, "", None)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "radgraph-xl").mkdir()
    for name, scorer in (
        ("RaTEScore", "RaTEScore"),
        ("radgraph", "F1RadGraph"),
        ("green_score", "GREEN"),
    ):
        module = ModuleType(name)
        setattr(module, scorer, Scorer)
        monkeypatch.setitem(sys.modules, name, module)
    part = ModuleType("radgraph.radgraph")
    part.CACHE_DIR = str(tmp_path)  # type: ignore[attr-defined]
    sys.modules["radgraph"].radgraph = part  # type: ignore[attr-defined]
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: "config.json")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return tmp_path


def test_packages_score_pairs_and_empty_texts_score_zero(packages: Path) -> None:
    scores, notes = model_scores(("ratescore", "radgraph", "green"), GENERATED, TRUTH)
    levels = ("simple", "partial", "complete")
    assert list(scores) == ["ratescore", *(f"radgraph_{k}_f1" for k in levels), "green"]
    assert all(values.tolist() == [1, 0, 0] for values in scores.values())
    assert len(notes) == 3 and "radgraph-xl" in notes[1]
    nothing, _ = model_scores(("green",), ["", ""], ["Nodule.", "Nodule."])
    assert nothing["green"].tolist() == [0, 0]


def test_published_figures_leave_out_empty_texts(packages: Path) -> None:
    (standard, published), _ = text_macros(GENERATED, TRUTH, np.ones((1, 3)), ("bleu", "ratescore"))
    assert standard.figures["ratescore"].value == pytest.approx(1 / 3)
    assert published.figures["ratescore"].value == pytest.approx(1 / 2)


def test_what_is_missing_is_told_and_the_rest_computed(
    packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (packages / "radgraph-xl").rmdir()
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "bert_score", None)
    monkeypatch.setattr(model_metrics, "_NOTICES", model_metrics.Notices("medvlp.evaluation"))
    for _ in range(2):
        macros, notes = text_macros(
            GENERATED, TRUTH, np.ones((1, 3)), ("rouge", *model_metrics.MODEL_METRICS)
        )
    assert list(macros[0].figures) == ["rouge1", "rougeL"]
    (note,) = notes
    for what in ("pip install bert-score", "hf download FremyCompany/", "fetch its model", "a GPU"):
        assert what in note
    assert [record.message for record in caplog.records] == [note]


def test_bert_score_hears_the_space_before_the_first_word(tmp_path: Path) -> None:
    package = pytest.importorskip("bert_score")
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    letters = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters.train_from_iterator(["no nodule no effusion"] * 5, 300, 1, special_tokens=special)
    letters.save_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 32}))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(
        vocab_size=300, num_hidden_layers=3, max_position_embeddings=40, pad_token_id=1, **sizes
    )
    RobertaModel(config).save_pretrained(tmp_path)
    texts = ["no nodule", "effusion no"], ["no effusion", "effusion no"]
    (scores,) = bert_scores(package, *texts, model=str(tmp_path), layer=2)
    assert scores[1] == pytest.approx(1, abs=1e-5)

    words = RobertaTokenizer.from_pretrained(tmp_path)
    network = RobertaModel.from_pretrained(tmp_path).eval()
    network.encoder.layer = network.encoder.layer[:2]
    with torch.no_grad():
        said, true = (
            network(torch.tensor([words.encode(" " + side[0])])).last_hidden_state[0]
            for side in texts
        )
    cosine = torch.nn.functional.cosine_similarity(said[:, None], true[None], dim=-1)
    # the tokens of start and end weigh nothing, but others may be matched with them
    precision, recall = cosine.amax(1)[1:-1].mean(), cosine.amax(0)[1:-1].mean()
    expected = float(2 * precision * recall / (precision + recall))
    assert scores[0] == pytest.approx(expected, abs=1e-5)


def test_cider_d_is_that_of_the_scorer_of_coco_captions() -> None:
    """Figures of pycocoevalcap 1.2, `CiderScorer`, on the same words and a single reference."""
    truth = [
        "No pleural effusion is seen. The heart is of normal size.",
        "There is a small nodule in the right upper lobe. No pleural effusion is seen.",
        "The heart is enlarged. There is pleural effusion on the right.",
        "Both lungs are clear.",
    ]
    generated = [
        "No pleural effusion is seen. The heart is enlarged.",
        "There is a small nodule in the left lower lobe of the lung. No effusion.",
        "The heart is of normal size. The heart is of normal size.",
        "Both lungs are clear.",
    ]
    expected = [4.53987530840347, 4.6236075715265725, 0.3688785783089503, 10.0]
    np.testing.assert_allclose(cider_d(generated, truth), expected, rtol=0, atol=1e-12)


def test_cider_d_by_hand() -> None:
    """Two references without a word in common: each n-gram weighs log 2, so cosines of counts."""
    truth = ["a b", "c d"]
    # words: 1 of 2 in common; pairs of words: none; longer ones: there are none
    np.testing.assert_allclose(cider_d(["a d", "c d"], truth), [10 * 0.5 / 4, 10 * 2 / 4])
    # a word twice counts once: 1 / (2 * sqrt 2); as long as the truth, so no penalty
    np.testing.assert_allclose(cider_d(["a a", "c d"], truth)[0], 10 / (2 * 2**0.5) / 4)
