"""HSENet: figures of reports and answers."""

import math
from collections.abc import Sequence

import numpy as np
from sklearn.metrics import classification_report

from medvlp.evaluation.answer_metrics import (
    CATEGORIES,
    category,
    published_class_accuracy,
    published_text_accuracy,
)
from medvlp.evaluation.report_generation import text_macros
from medvlp.evaluation.text_metrics import bleu_statistics, meteor, ngram_precisions, rouge
from medvlp.evaluation.visual_question_answering import category_macros

from .registry import Case, handles

TOLERANCE = 1e-6


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
