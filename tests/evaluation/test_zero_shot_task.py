import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from torch.nn import functional as F

from medvlp.evaluation.results import Results
from medvlp.evaluation.zero_shot_anomaly import ZeroShotAnomaly
from medvlp.evaluation.zero_shot_task import ZeroShotTask
from medvlp.prompts.prompt_set import PromptSet

from .test_zero_shot import HashTokenizer, embed_text

NAMES = ["Normal", "Stroke", "Glioma", "Meningioma", "Metastasis"]
CPU = torch.device("cpu")


def tokenizer() -> HashTokenizer:
    """The prompt of class k is text k, whichever of them a task asks for."""
    numbering, prompts = HashTokenizer(), PromptSet.load("pub_brain_5")
    numbering([prompts.texts(name, "study")[1][0] for name in NAMES])
    return numbering


def make_task(classes=NAMES, **changes) -> ZeroShotTask:
    options = {"label_names": NAMES, "classes": classes, "num_resamples": 20}
    return ZeroShotTask("pub_brain_5", tokenizer(), **(options | changes))


def batch_of(truth: torch.Tensor, **changes) -> tuple[torch.Tensor, dict]:
    """Embeddings that point, with noise, along the axis of the true class."""
    generator = torch.Generator().manual_seed(1)
    embedding = F.one_hot(truth, 40).float()
    embedding += 0.5 * torch.randn(embedding.shape, generator=generator)
    ids = [f"study{k:02}" for k in range(len(truth))]
    batch = {
        "image": torch.zeros(len(truth), 1, 1, 1, 1),
        "num_scans": torch.full((len(truth),), 3),
        "study_id": ids,
        "sample_id": ids,
        "patient_id": ids,
        "recipe_hash": "recipe",
        "labels": F.one_hot(truth, len(NAMES)),
    }
    return F.normalize(embedding, dim=-1), batch | changes


def run(measure, embedding, batch) -> Results:
    measure.reset()
    measure.prepare(embed_text, torch.tensor([2.0]), CPU)
    measure.update(embedding, batch)
    return measure.compute(measure.rows())


TRUTH = torch.arange(5).repeat(8)


def test_figures_of_five_classes_are_those_of_scikit_learn():
    measure = make_task()
    results = run(measure, *batch_of(TRUTH))
    rows = measure.rows()
    scores = np.array([row["scores"] for row in rows])
    truth, choice = TRUTH.numpy(), scores.argmax(axis=1)
    metrics = results.metrics()
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, choice))
    assert metrics["f1_weighted"] == pytest.approx(f1_score(truth, choice, average="weighted"))
    assert metrics["accuracy"] == pytest.approx((truth == choice).mean())
    scores /= scores.sum(axis=1, keepdims=True)
    one_vs_rest = roc_auc_score(truth, scores, multi_class="ovr")
    assert metrics["auroc_macro"] == pytest.approx(one_vs_rest)
    low, high = metrics["balanced_accuracy_low"], metrics["balanced_accuracy_high"]
    assert low < metrics["balanced_accuracy"] < high
    assert [finding.num_positive for finding in results.findings] == [8] * 5
    assert results.score_rule == "choice"
    assert results.predictions[0]["num_scans"] == 3


def test_studies_of_other_classes_take_no_part_and_are_counted():
    embedding, batch = batch_of(TRUTH)
    labels = batch["labels"].clone()
    labels[0, 1] = 1  # normal and stroke
    labels[5] = -1
    results = run(make_task(["Normal", "Stroke"]), embedding, batch | {"labels": labels})
    assert results.left_out == {
        "of several of these classes": 1,
        "of unknown class": 1,
        "of none of these classes": 24,
    }
    assert results.num_samples == 14
    assert [finding.name for finding in results.findings] == ["Stroke"]  # Normal is the reference
    assert results.findings[0].num_positive == 8
    assert results.macros[0].figures["recall"] == results.findings[0].figures["recall"]


def test_published_choice_of_studies_goes_by_the_path():
    embedding, batch = batch_of(torch.tensor([0, 1, 1, 0]))
    paths = ["open_bhb/a", "stroke/b", "elsewhere/c", "open_bhb/d"]
    batch |= {"study_id": paths, "sample_id": paths}
    results = run(make_task(["Normal", "Stroke"], compat="published"), embedding, batch)
    assert results.left_out == {"not chosen by its path": 1}
    assert results.num_samples == 3


@pytest.mark.parametrize("present", [[0], [3], [0, 1]])
def test_a_task_whose_classes_hardly_occur_has_undefined_figures(present):
    results = run(make_task(NAMES[2:]), *batch_of(torch.tensor(present * 4)))
    assert results.findings == []
    assert set(results.skipped) == set(NAMES[2:])
    assert math.isnan(results.metrics()["balanced_accuracy"])
    assert math.isnan(results.metrics()["auroc_macro"])


def test_one_token_of_several_is_scored():
    embedding, batch = batch_of(TRUTH)
    two = torch.stack([embedding.flip(0), embedding], dim=1)
    reference = run(make_task(), embedding, batch)
    assert run(make_task(token=1), two, batch).findings == reference.findings
    with pytest.raises(ValueError, match=r"token 1, the image tower gives 1 embeddings"):
        run(make_task(token=1), embedding, batch)


def test_anomaly_is_the_mean_of_the_tasks_against_normal():
    options = {"label_names": NAMES, "reference": "Normal", "classes": NAMES[1:]}
    measure = ZeroShotAnomaly("pub_brain_5", tokenizer(), num_resamples=20, **options)
    found = run(measure, *batch_of(TRUTH)).metrics()
    tasks = [run(make_task(["Normal", name]), *batch_of(TRUTH)).metrics() for name in NAMES[1:]]
    for metric in ("auroc_macro", "balanced_accuracy", "f1_weighted"):
        assert found[metric] == pytest.approx(np.mean([task[metric] for task in tasks])), metric


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="chooses among at least two different"):
        make_task(["Stroke"])
    with pytest.raises(ValueError, match="did you mean Stroke"):
        make_task(["Normal", "Strok"])
    with pytest.raises(ValueError, match="no published task of Pub-Brain-5 is about Stroke, Nor"):
        make_task(["Stroke", "Normal"], compat="published")
    with pytest.raises(ValueError, match="scores Glioma, the data set has no such label"):
        make_task(["Normal", "Glioma"], label_names=["Normal", "Stroke"])
    embedding, batch = batch_of(TRUTH)
    with pytest.raises(ValueError, match="none of 40 samples has a known label"):
        run(make_task(), embedding, {key: batch[key] for key in batch if key != "labels"})
