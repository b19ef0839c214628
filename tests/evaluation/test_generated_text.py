import numpy as np
import pytest
import torch

from medvlp.data.ct_rate import LABEL_NAMES
from medvlp.evaluation.report import to_markdown, to_text
from medvlp.evaluation.report_generation import ReportGeneration
from medvlp.evaluation.report_labels import ReportLabels
from medvlp.evaluation.results import Results
from medvlp.evaluation.visual_question_answering import VisualQuestionAnswering

LABELS = ("Pleural effusion", "Lung nodule", "Atelectasis")
QUIET = "No pleural effusion. No nodule is seen. No atelectatic band is seen."
FLUID = "Pleural fluid measuring 5 mm is observed. No nodule is seen in either lung."


def batch_of(answers: list[str], first: int = 0, **more) -> dict:
    ids = [f"s{first + k}" for k in range(len(answers))]
    return {
        "image": torch.zeros(len(ids), 1, 1, 1, 1),
        "num_scans": torch.ones(len(ids), dtype=torch.long),
        "study_id": ids,
        "sample_id": ids,
        "patient_id": ids,
        "recipe_hash": "recipe",
        "answer": answers,
    } | more


def run(measure, generated: list[str], batch: dict) -> Results:
    measure.reset()
    measure.update(generated, batch)
    return measure.compute(measure.rows())


def reports(**options) -> ReportGeneration:
    return ReportGeneration(label_names=LABELS, num_resamples=20, **options)


def test_equal_reports_score_full():
    batch = batch_of([QUIET, FLUID], labels=torch.tensor([[0, 0, 0], [1, 0, -1]]))
    results = run(reports(), [QUIET, FLUID], batch)
    metrics = results.metrics()
    for name in ("text_bleu4", "text_rougeL", "labels_f1_micro", "published_bleu4_precision"):
        assert metrics[name] == pytest.approx(1)
    assert metrics["labels_f1_pleural_effusion"] == 1
    assert metrics["report_labels_f1_macro"] == 1
    assert metrics["collapse_distinct_reports"] == 1
    assert Results.from_dict(results.to_dict()).to_dict() == results.to_dict()
    assert "labels" in to_text(results) and "chance" not in to_markdown(results)


def test_a_report_for_all_collapses_and_finds_nothing():
    batch = batch_of([QUIET, FLUID, ""], labels=torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0]]))
    results = run(reports(rare=0.5), [QUIET, QUIET, QUIET], batch)
    metrics = results.metrics()
    assert results.left_out == {"without a true text": 1}
    assert metrics["labels_f1_micro"] == metrics["labels_rare_recall"] == 0
    assert metrics["collapse_distinct_reports"] == 0.5
    assert metrics["collapse_true_distinct_reports"] == 1
    assert metrics["collapse_most_frequent"] == 1


def test_an_empty_text_scores_zero_and_is_left_out_of_the_published_means():
    results = run(reports(), [QUIET, " "], batch_of([QUIET, FLUID]))
    metrics = results.metrics()
    assert metrics["text_rougeL"] == pytest.approx(0.5)
    assert metrics["published_rougeL"] == pytest.approx(1)
    assert any("empty" in note for note in results.notes)


def test_order_batches_and_repeats_change_nothing():
    texts = [QUIET, FLUID, QUIET]
    whole = run(reports(), texts, batch_of(texts))
    measure = reports()
    for k in (2, 0, 1, 0):
        measure.update([texts[k]], batch_of([texts[k]], first=k))
    assert measure.compute(measure.rows()).to_dict() == whole.to_dict() | {"duplicates_dropped": 1}


def test_answers_by_kind():
    target = [
        {"kind": "presence", "choices": ["Yes.", "No."]},
        {"kind": "presence", "choices": ["Yes.", "No."]},
        {"kind": "location", "choices": []},
        {"kind": "location", "choices": []},
    ]
    answers = ["Yes.", "No.", "Lung/Left lung", "Heart"]
    batch = batch_of(answers, target=target, question=["?"] * 4)
    measure = VisualQuestionAnswering(num_resamples=20)
    results = run(measure, ["yes", "maybe", "lung/right lung", ""], batch)
    metrics = results.metrics()
    assert metrics["closed_accuracy"] == 0.5
    assert metrics["open_accuracy"] == 0
    assert metrics["kind_location_n"] == 2
    assert metrics["place_micro_class_accuracy"] == 0.5
    assert metrics["place_micro_acc_class"] == 1  # published: an empty answer is right
    assert metrics["place_heart_class_accuracy"] == 0
    assert any("1 of 2 closed" in note for note in results.notes)
    assert results.predictions[0]["right"] == 1


@pytest.mark.parametrize("measure", [reports(), VisualQuestionAnswering()])
def test_what_cannot_be_compared_is_refused(measure):
    with pytest.raises(ValueError, match="got embeddings"):
        measure.update(torch.zeros(1, 3), batch_of(["a"]))
    bare = batch_of(["a"])
    del bare["answer"]
    with pytest.raises(ValueError, match="no answers"):
        measure.update(["a"], bare)
    with pytest.raises(ValueError, match="true text"):
        run(measure, ["a"], batch_of([""]))


def test_labels_of_the_wordings_of_the_twins():
    from medvlp.phantom.reports import prompt

    read = ReportLabels(LABEL_NAMES)
    for k, name in enumerate(LABEL_NAMES):
        assert np.flatnonzero(read(prompt(name, True))).tolist() == [k]
        assert not read(prompt(name, False)).any()
    with pytest.raises(ValueError, match="no rules"):
        ReportLabels(["Measles"])
