"""Golden cases of HLIP's zero-shot metrics."""

import pytest
import torch

from medvlp.evaluation.classification import ClassificationProtocol, classification_results
from medvlp.evaluation.published import hlip_layout, pub_brain_5_layout, retrieval_layout
from medvlp.evaluation.retrieval import Retrieval
from medvlp.evaluation.score_table import ScoreTable
from medvlp.evaluation.statistics import closest_corner_threshold
from medvlp.evaluation.zero_shot import pair_probabilities
from medvlp.evaluation.zero_shot_task import ZeroShotTask
from medvlp.prompts.prompt_set import PromptSet

from .registry import Case, handles


def score_table(case: Case) -> ScoreTable:
    probability = pair_probabilities(case.inputs["cosine"], case.config["logit_scale"])
    case.assert_close("prob_positive", probability[..., 1], case.inputs["prob_positive"])
    names = [f"s{row}" for row in range(len(probability))]
    return ScoreTable(
        class_names=list(case.config["classes"]),
        sample_ids=names,
        patient_ids=names,
        scores=probability[..., 1].double().numpy(),
        decisions=(probability[..., 1] > probability[..., 0]).numpy(),
        labels=case.inputs["labels"].numpy(),
        metadata=[{} for _ in names],
        recipe_hash="",
    )


def check(case: Case, prompts: PromptSet) -> None:
    table = score_table(case)
    for k, name in enumerate(table.class_names):
        threshold = closest_corner_threshold(table.labels[:, k] == 1, table.scores[:, k])
        assert threshold == pytest.approx(case.config["thresholds"][name], abs=1e-6), name
    for name, sources in prompts.merge.items():
        table = table.merged(name, sources)
    protocol = ClassificationProtocol(
        name=case.name, prompt_hash="", groups={"all": table.class_names}, num_resamples=10
    )
    layout = hlip_layout(classification_results(table, protocol))
    expected = case.config["results"]
    assert list(layout) == list(expected)
    for row, metrics in expected.items():
        assert set(layout[row]) == set(metrics)
        for key, value in metrics.items():
            assert layout[row][key] == pytest.approx(value, abs=1e-6), f"{row}: {key}"


@handles("hlip", "metrics_ct_rate")
def metrics_ct_rate(case: Case) -> None:
    check(case, PromptSet.load("ct_rate"))


@handles("hlip", "metrics_rad_chestct")
def metrics_rad_chestct(case: Case) -> None:
    check(case, PromptSet.load("rad_chestct"))


CLASSES = ["Normal", "Stroke", "Glioma", "Meningioma", "Metastasis"]
TASKS = [*([CLASSES[0], name] for name in CLASSES[1:]), CLASSES[2:], CLASSES]


def task_rows(case: Case, task: ZeroShotTask) -> list[dict]:
    """Rows as the task would make them of embeddings with these similarities."""
    columns = [CLASSES.index(name) for name in task.classes]
    scale = torch.tensor([case.config["logit_scale"]])
    scores, decisions = task.scores(case.inputs["cosine"][:, columns], scale)
    return [
        {
            "sample_id": study,
            "study_id": study,
            "patient_id": study,
            "recipe_hash": "",
            "scores": scores[row].tolist(),
            "decisions": decisions[row].tolist(),
            "labels": case.inputs["labels"][row, columns].tolist(),
        }
        for row, study in enumerate(case.config["studies"])
    ]


@handles("hlip", "metrics_pub_brain_5")
def metrics_pub_brain_5(case: Case) -> None:
    layout = {}
    for classes in TASKS:
        task = ZeroShotTask(
            "pub_brain_5",
            lambda texts: pytest.fail("nothing is encoded here"),
            label_names=CLASSES,
            classes=classes,
            compat="published",
            num_resamples=10,
        )
        layout |= pub_brain_5_layout(task.compute(task_rows(case, task)))
    expected = case.config["results"]
    assert set(layout) == set(expected)
    for name, metrics in expected.items():
        assert set(layout[name]) == set(metrics)
        for key, value in metrics.items():
            assert layout[name][key] == pytest.approx(value, abs=1e-6), f"{name}: {key}"


@handles("hlip", "metrics_retrieval")
def metrics_retrieval(case: Case) -> None:
    image, text = case.inputs["image_features"], case.inputs["text_features"]
    names = [f"s{row:06}" for row in range(len(image))]
    rows = [
        {
            "sample_id": name,
            "patient_id": name,
            "recipe_hash": "",
            "image": image[row].numpy(),
            "text": text[row].numpy(),
            "text_key": name,
            "batch_size": 1,
            "scores": [float(image[row] @ text[row])],
        }
        for row, name in enumerate(names)
    ]
    layout = retrieval_layout(Retrieval(num_resamples=10).compute(rows))
    for key, value in case.config["results"].items():
        assert layout[key] == pytest.approx(value, abs=1e-6), key
