import re

import numpy as np
import pytest

from medvlp.phantom.ct_rate_source import PhantomCTRate
from medvlp.phantom.finding import LABELS
from medvlp.phantom.radgenome_words import absent
from medvlp.phantom.reports import NEGATION_WORDS, all_sentences, prompt, write_report
from medvlp.phantom.study import sample_study

# hlip.md, section 8.1, template `volume`; the two last follow the same grammar.
PROMPTS = {
    "Emphysema": ("Not emphysema", "Emphysema"),
    "Atelectasis": ("Not atelectatic", "Atelectasis"),
    "Lung nodule": ("Not lung nodule", "Lung nodule"),
    "Lung opacity": ("Not lung opacity", "Lung opacity"),
    "Pulmonary fibrotic sequela": (
        "Not pulmonary fibrotic sequela",
        "Pulmonary fibrotic sequela",
    ),
    "Pleural effusion": ("Not pleural effusion", "Pleural effusion"),
    "Mosaic attenuation pattern": (
        "Not mosaic attenuation pattern",
        "Mosaic attenuation pattern",
    ),
    "Peribronchial thickening": ("Not peribronchial thickening", "Peribronchial thickening"),
    "Consolidation": ("Not consolidation", "Consolidation"),
    "Bronchiectasis": ("Not bronchiectasis", "Bronchiectasis"),
    "Interlobular septal thickening": (
        "Not interlobular septal thickening",
        "Interlobular septal thickening",
    ),
    "Cardiomegaly": ("Not cardiomegaly", "Cardiomegaly"),
    "Pericardial effusion": ("Not pericardial effusion", "Pericardial effusion"),
    "Coronary artery wall calcification": (
        "Not coronary artery wall calcification",
        "Coronary artery wall calcification",
    ),
    "Hiatal hernia": ("Not hiatal hernia", "Hiatal hernia"),
    "Arterial wall calcification": (
        "Not arterial wall calcification",
        "Arterial wall calcification",
    ),
    "Medical material": ("Not medical material", "Medical material"),
    "Lymphadenopathy": ("Not lymphadenopathy", "Lymphadenopathy"),
}


def report(seed):
    study = sample_study((seed,), (seed,))
    return study, write_report(study, np.random.default_rng(seed), thickness_mm=1.5)


def sentences(text):
    return [f"{part}." for part in text.rstrip(".").split(". ")]


def is_negative(sentence):
    return bool(set(re.findall(r"[a-z]+", sentence.lower())) & set(NEGATION_WORDS))


@pytest.mark.parametrize("name", LABELS)
def test_prompts_are_those_of_the_published_protocol(name):
    negative, positive = PROMPTS[name]
    assert (prompt(name, False), prompt(name, True)) == (f"{negative}.", f"{positive}.")


@pytest.mark.parametrize("name", LABELS)
def test_the_grammar_holds_both_prompt_grammars(name):
    said = {(present, text) for label, present, text in all_sentences() if label == name}
    assert (True, prompt(name, True)) in said
    assert (False, prompt(name, False)) in said
    assert (True, f"{name} is present.") in said
    assert (False, f"{name} is not present.") in said


def test_negation_words_mark_exactly_the_negative_sentences():
    for name, present, sentence in all_sentences():
        assert is_negative(sentence) is not present, (name, sentence)


def test_sentences_end_with_their_only_full_stop_and_have_no_gaps():
    for _, _, sentence in all_sentences():
        assert sentence.count(".") == 1
        assert sentence.endswith(".")
        assert "  " not in sentence
        assert sentence[0].isupper()


def test_findings_say_every_label_once_and_truly():
    for seed in range(30):
        study, text = report(seed)
        assert len(sentences(text.findings)) == len(LABELS)
        for name in LABELS:
            assert is_negative(text.sentences[name]) is (name not in study.names)
            assert text.sentences[name] in text.findings


def test_the_impression_holds_every_present_finding_and_no_absent_one():
    num_negative = 0
    for seed in range(30):
        study, text = report(seed)
        said = set(sentences(text.impression))
        for name in LABELS:
            assert (prompt(name, True) in said) is (name in study.names)
            if prompt(name, False) in said:
                num_negative += 1
                assert name not in study.names
    assert num_negative > 30 * 5


def test_wordings_vary_and_carry_side_and_size():
    texts = " ".join(report(seed)[1].findings for seed in range(60))
    assert " is present." in texts
    assert " is not present." in texts
    assert re.search(r"nodule (of|measuring) \d+ mm (is seen|lies) in the (left|right)", texts)
    assert "on the left" in texts
    assert "on both sides" in texts


def test_the_same_seed_writes_the_same_report():
    assert report(3)[1] == report(3)[1]


def test_what_was_not_looked_for_is_neither_found_nor_denied() -> None:
    kinds = ("Cardiomegaly", "Pleural effusion")
    studies = [sample_study((seed,), (seed,), prevalence=0.6, kinds=kinds) for seed in range(20)]
    assert {name for study in studies for name in study.names} == set(kinds)
    for study in studies:
        report = write_report(study, np.random.default_rng(0), thickness_mm=1.5)
        assert sorted(report.sentences) == sorted(kinds)
        assert report.impression.count(".") <= 4
        assert {name for names in absent(study).values() for name in names} <= {
            "cardiomegaly",
            "pleural effusion",
        }


def test_an_unknown_kind_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(ValueError, match="kinds is \\['Fracture'\\], expected a choice of"):
        PhantomCTRate(str(tmp_path / "twin"), kinds=["Fracture"]).materialise()
    assert not (tmp_path / "twin").exists()
