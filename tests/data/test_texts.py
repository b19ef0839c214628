from collections import Counter

import numpy as np
import pytest

from medvlp.data.statements import split_sentences, statement_id, statements_of
from medvlp.data.texts import PermutedText, ReportText, SectionTexts, SentenceSampler
from medvlp.types import TextKind


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_report_as_published() -> None:
    sections = {"findings": "Lungs are clear (bilateral)", "impression": 'No acute "disease"'}
    (unit,) = ReportText()(sections, chance())
    assert unit.text == (
        "The volume shows: No acute disease. The volume looks like: Lungs are clear bilateral."
    )
    assert unit.kind is TextKind.REPORT and unit.statements == statements_of(sections)


def test_missing_sections_are_left_out_or_published_as_nan() -> None:
    sections = {"findings": "Clear."}
    assert ReportText()(sections, chance())[0].text == "The volume looks like: Clear."
    published = ReportText(missing="nan")(sections, chance())[0].text
    assert published == "The volume shows: nan. The volume looks like: Clear."


def test_other_sections_than_the_templates() -> None:
    assert ReportText()({"report": "Clear"}, chance())[0].text == "Clear."


def test_sentences() -> None:
    text = 'A 7.5 mm nodule (3rd). No effusion!\n"Normal heart" Spleen: 12 cm.'
    parts = ["A 7.5 mm nodule (3rd).", "No effusion!", "Normal heart", "Spleen: 12 cm."]
    assert split_sentences(text) == parts
    assert split_sentences(" .. ") == []
    assert 0 <= statement_id("x") < 2**63
    assert len({statement_id(part) for part in parts}) == 4


def test_a_very_long_report_is_cut_quickly() -> None:
    assert len(split_sentences("Five words are in here. " * 1000)) == 1000
    assert len(split_sentences("word " * 5000)) == 1


def test_sentence_sampler_prefers_the_abnormal() -> None:
    sampler = SentenceSampler(max_sentences=1, abnormal_weight=3.0)
    sections = {"findings": "No effusion. Large nodule."}
    texts = Counter(sampler(sections, chance(seed))[0].text for seed in range(400))
    assert set(texts) == {
        "The volume looks like: No effusion.",
        "The volume looks like: Large nodule.",
    }
    assert texts["The volume looks like: Large nodule."] == pytest.approx(300, abs=35)


def test_sentence_sampler_keeps_order_and_knows_its_statements() -> None:
    sampler = SentenceSampler(max_sentences=3)
    sections = {"impression": "B is present. A is present. C is present", "findings": "D."}
    known, lengths = set(statements_of(sections)), set()
    for seed in range(50):
        (unit,) = sampler(sections, chance(seed))
        assert set(unit.statements) <= known and unit.kind is TextKind.SENTENCE
        lengths.add(len(unit.statements))
        if "shows" in unit.text:
            order = [unit.text.find(letter + " is") for letter in "BAC"]
            found = [position for position in order if position >= 0]
            assert found == sorted(found) and unit.text.endswith("present.")
        else:
            assert unit.text == "The volume looks like: D."
    assert lengths == {1, 2, 3}


def test_the_same_generator_gives_the_same_text() -> None:
    sections = {"findings": "A. B. C. D. E."}
    assert SentenceSampler()(sections, chance(3)) == SentenceSampler()(sections, chance(3))


def test_impossible_samplers() -> None:
    with pytest.raises(ValueError, match="max_sentences is 0"):
        SentenceSampler(0)
    with pytest.raises(ValueError, match="expected a section"):
        ReportText("no section")


def test_a_study_may_have_several_independent_texts():
    sections = {"findings": "A is seen. B is seen. C is seen. D is seen."}
    units = SentenceSampler(max_sentences=1, texts_per_study=40)(sections, chance(0))
    assert len(units) == 40
    assert len({unit.text for unit in units}) == 4


def test_sections_are_drawn_by_their_weights():
    sections = {"findings": "A is seen.", "impression": "B."}
    sampler = SentenceSampler(
        texts_per_study=2000, section_weights={"impression": 3.0, "findings": 1.0}
    )
    share = sum(unit.text.endswith("B.") for unit in sampler(sections, chance(0))) / 2000
    assert abs(share - 0.75) < 0.03


def test_a_section_of_weight_zero_stands_in_where_it_is_the_only_one():
    sampler = SentenceSampler(section_weights={"findings": 0.0})
    assert sampler({"findings": "A is seen."}, chance(0))[0].text.endswith("A is seen.")


REPORT = {
    "impression": "Acute stroke. No bleeding",
    "findings": "The left lobe is dark. Ventricles are normal. The skull is whole.",
}


def test_each_study_has_one_sentence_and_its_findings_in_any_order():
    shorts, orders = set(), set()
    for seed in range(60):
        short, long = SectionTexts()(REPORT, chance(seed))
        assert (short.kind, long.kind) == (TextKind.SENTENCE, TextKind.FINDINGS)
        assert len(short.statements) == 1 and set(short.statements) < set(statements_of(REPORT))
        assert set(long.statements) == set(statements_of([REPORT["findings"]]))
        head, tail = long.text.split(": ")
        assert head == "This study looks like"
        assert sorted(split_sentences(tail)) == sorted(split_sentences(REPORT["findings"]))
        shorts.add(short.text)
        orders.add(tail)
    assert shorts == {"This study shows: Acute stroke.", "This study shows: No bleeding."}
    assert len(orders) == 6


def test_the_long_text_may_be_the_report_in_its_order():
    _, long = SectionTexts("sentence and report")(REPORT, chance())
    assert long.kind is TextKind.REPORT
    assert long.text == (
        "This study shows: Acute stroke. No bleeding. This study looks like: The left lobe is "
        "dark. Ventricles are normal. The skull is whole."
    )
    with pytest.raises(ValueError, match="expected 'sentence and findings' or"):
        SectionTexts("findings")


@pytest.mark.parametrize("mode", ["sentence and findings", "sentence and report"])
@pytest.mark.parametrize("only", ["impression", "findings", "report", "text_00"])
def test_another_part_of_the_report_stands_in_for_a_missing_section(mode, only):
    sampler = SectionTexts(mode)
    short, long = sampler({only: "One thing is seen"}, chance())
    assert short.text == "This study shows: One thing is seen."
    assert long.text.endswith("One thing is seen.")
    missing = tuple(name for name in ("impression", "findings") if name != only)
    assert sampler.lacks({only: "One thing is seen"}) == missing
    assert sampler.lacks(REPORT) == ()


def test_strings_of_an_annotation_are_permuted_as_they_are():
    strings = {
        f"text_{i:02d}": f"The {organ} shows: x" for i, organ in enumerate(("lung", "heart"))
    }
    texts = {PermutedText()(strings, chance(seed))[0].text for seed in range(20)}
    lung, heart = strings.values()
    assert texts == {f"{lung} {heart}", f"{heart} {lung}"}
    (unit,) = PermutedText()(strings, chance())
    assert unit.kind is TextKind.REPORT and unit.statements == statements_of(strings)


def test_sentences_of_the_first_wanted_section_are_permuted():
    sampler = PermutedText("This MRI study shows: {text}", unit="sentence", sections=["findings"])
    sections = {"impression": "C.", "findings": "A is dark. B is bright"}
    texts = {sampler(sections, chance(seed))[0].text for seed in range(20)}
    assert texts == {
        "This MRI study shows: A is dark. B is bright.",
        "This MRI study shows: B is bright. A is dark.",
    }
    assert sampler({"report": "Only this"}, chance())[0].text.endswith("shows: Only this.")
    for wrong in ({"unit": "word"}, {"template": "no place"}):
        with pytest.raises(ValueError, match="expected 'section' or 'sentence'"):
            PermutedText(**wrong)
