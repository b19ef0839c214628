import io
from dataclasses import replace

from rich.console import Console

from medvlp.evaluation.text_examples import examples_markdown, examples_table, text_examples


def texts(results, count):
    rows = [
        {"sample_id": str(k), "patient_id": "p", "Ground Truth": f"true {k}", "pred": f"a|b\n[{k}]"}
        for k in range(count)
    ]
    return replace(results, predictions=rows)


def test_five_are_taken_at_even_distances(results):
    assert [row["sample_id"] for row in text_examples(texts(results, 12))] == list("02479")
    assert len(text_examples(texts(results, 3))) == 3
    assert text_examples(results) == []  # scores are no texts


def test_they_stand_beside_the_truth_whatever_is_in_them(results):
    examples = text_examples(texts(results, 2))
    assert examples_markdown(examples) == (
        "| sample | generated | truth |\n| --- | --- | --- |\n"
        "| 0 | a\\|b [0] | true 0 |\n| 1 | a\\|b [1] | true 1 |\n"
    )
    shown = io.StringIO()
    table = examples_table([{"Question": "where?", **row} for row in examples])
    Console(width=60, color_system=None, file=shown).print(table)
    assert all(text in shown.getvalue() for text in ("question", "where?", "[1]", "true 1"))
