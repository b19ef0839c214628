"""HSENet: figures of reports and answers."""

import json
import math
import random
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import classification_report
from transformers import BertTokenizer

from medvlp.data.random_sentences import random_sentences
from medvlp.evaluation.answer_metrics import (
    CATEGORIES,
    category,
    published_class_accuracy,
    published_text_accuracy,
)
from medvlp.evaluation.report_generation import text_macros
from medvlp.evaluation.retrieval_metrics import matching_ranks, rank_metrics
from medvlp.evaluation.text_metrics import bleu_statistics, meteor, ngram_precisions, rouge
from medvlp.evaluation.visual_question_answering import category_macros
from medvlp.evaluation.volume_retrieval import cumulative, findings_overlap

from .registry import Case, handles

TOLERANCE = 1e-6
SCRIPT_SEED = 42  # of the published script


def _scores(generated: Sequence[str], truth: Sequence[str]) -> dict[str, np.ndarray]:
    precisions = ngram_precisions(bleu_statistics(generated, truth))
    scores = {f"bleu{order + 1}": precisions[:, order] for order in range(4)}
    return scores | rouge(generated, truth) | {"meteor": meteor(generated, truth)}


def _assert_close(what: str, ours: float, golden: float | None) -> None:
    wanted = math.nan if golden is None else golden
    assert math.isnan(ours) == math.isnan(wanted), f"{what}: {ours}, golden {wanted}"
    assert math.isnan(wanted) or abs(ours - wanted) <= TOLERANCE, f"{what}: {ours}, not {wanted}"


@handles("hsenet", "mrg_metrics")
def mrg_metrics(case: Case) -> None:
    rows = case.config["rows"]
    texts = [row["pred"] for row in rows], [row["ground_truth"] for row in rows]
    weights = np.ones((2, len(rows)))
    for name, values in _scores(*texts).items():
        for row, ours in zip(rows, values.tolist(), strict=True):
            _assert_close(name, ours, row[name])
    figures = {macro.name: macro.figures for macro in text_macros(*texts, weights)[0]}["published"]
    for name, golden in case.config["mean_over_scored"].items():
        ours = figures[f"{name}_precision" if name.startswith("bleu") else name]
        _assert_close(name, ours.value, golden)


@handles("hsenet", "vqa_metrics")
def vqa_metrics(case: Case) -> None:
    samples = case.config["samples"]
    generated, truth = ([row[key] for row in samples] for key in ("pred", "answer"))
    pairs = list(zip(generated, truth, strict=True))
    scores = _scores(generated, truth)
    scores["acc_class"] = np.array([float(published_class_accuracy(*pair)) for pair in pairs])
    scores["acc_text"] = np.array([float(published_text_accuracy(*pair)) for pair in pairs])
    anatomies = [category(text) for text in truth]
    for k, golden in enumerate(case.config["per_sample"]):
        assert golden["Anatomy Type"] == anatomies[k]
        for name in scores.keys() & golden.keys():
            _assert_close(name, float(scores[name][k]), golden[name])
    macros = category_macros("place", anatomies, scores, np.ones((2, len(samples))))
    titles = ["micro", "macro", *(f"anatomy:{a}" for a in CATEGORIES if a in anatomies)]
    figures = dict(zip(titles, (macro.figures for macro in macros), strict=True))
    assert set(case.config["result"]) == set(titles)
    for title, goldens in case.config["result"].items():
        for name, golden in goldens.items():
            if name != "bert score":  # made up in the golden
                _assert_close(f"{title} {name}", figures[title][name].value, golden)
    classes = list(range(len(CATEGORIES)))
    numbers = ([CATEGORIES.index(category(text)) for text in part] for part in (truth, generated))
    report = classification_report(
        *numbers, labels=classes, target_names=CATEGORIES, digits=4, zero_division=0
    )
    assert str(report).split() == case.config["ce_classification_report"].split()


@handles("hsenet", "retrieval_eval")
def retrieval_eval(case: Case) -> None:
    """Rank the stored features; truncate the stored texts and turn them into ids."""
    printed = case.config["printed"]
    sides = {name: case.inputs[f"{name}_features"] for name in ("image", "text")}
    for direction in ("image_to_text", "text_to_image"):
        asking, asked = direction.split("_to_")
        ranks = matching_ranks(sides[asking], sides[asked]).double().numpy()
        cutoffs = [int(name.removeprefix("R@")) for name in printed[direction]]
        ours = rank_metrics(ranks, np.ones((1, len(ranks))), cutoffs)
        for name, golden in printed[direction].items():
            assert round(100 * float(ours[name][0]), 4) == golden, f"{direction} {name}"
    _volumes(case)
    _truncated_texts(case)


def _volumes(case: Case) -> None:
    labels = case.inputs["labels"].bool().numpy()
    cutoffs = [int(name.removeprefix("K=")) for name in case.config["image_to_image_clean"]]
    embeddings = case.inputs["image_features"].double().numpy()
    overlap = findings_overlap(embeddings, labels, cutoffs, exclude_self=False)
    clean = 100 * overlap.mean(axis=0)
    for ours, golden in zip(clean, case.config["image_to_image_clean"].values(), strict=True):
        _assert_close("image to image", float(ours), golden)
    goldens = case.config["printed"]["image_to_image_cumulative"].values()
    assert [round(float(ours), 4) for ours in cumulative(clean)] == list(goldens)
    assert (~labels.any(axis=1)).sum() == case.config["filtered_images"]


def _truncated_texts(case: Case) -> None:
    texts = json.loads((case.path / "texts.json").read_text(encoding="utf-8"))
    tokenizer = BertTokenizer(str(case.path / "vocab.txt"))
    clean = [text.translate(str.maketrans("", "", "\"'()")) for text in texts["raw"]]

    def cut(budget: int, seed: int, some: list[str]) -> list[str]:
        generator = random.Random(seed)
        return [
            random_sentences(text, budget, lambda part: len(tokenizer(part).input_ids), generator)
            for text in some
        ]

    for key, goldens in texts.items():
        if key == "raw":
            continue
        budget = int(key.removeprefix("trunc"))
        seed = case.config["truncate"][f"seed_{budget}"]
        assert cut(budget, seed, clean[: len(goldens)]) == goldens, key
    length = case.outputs["input_ids"].shape[1]
    step = -(-len(clean) // len(case.outputs["input_ids"]))
    own = cut(length, SCRIPT_SEED, clean)[::step]
    batch = tokenizer(
        own, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
    for key in ("input_ids", "attention_mask"):
        case.assert_close(key, batch[key], case.outputs[key])
    case.assert_all_compared()
