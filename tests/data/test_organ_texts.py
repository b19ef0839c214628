from typing import Any

import numpy as np
import pytest
import torch

from medvlp.data.collate import Collate
from medvlp.data.decomposed_report import DecomposedReport, organ_sections
from medvlp.data.organ_texts import OrganCaptionSampler, caption_id
from medvlp.data.texts import ReportText
from medvlp.data.transfer import move
from medvlp.data.volume_dataset import Sample
from medvlp.types import Tokens

RNG = np.random.default_rng(0)
REPORT = {"findings": "Heart size is increased. Lungs are clear.", "impression": "Cardiomegaly."}


def tokenizer(texts):
    ones = torch.ones(len(texts), 3, dtype=torch.int64)
    return Tokens(ones, ones.bool())


def sample(name, texts):
    return Sample([{"image": torch.zeros(1, 2, 2, 2)}], name, name, name, [], texts, ())


def test_texts_come_in_the_order_of_the_organs():
    units = OrganCaptionSampler(["heart", "lung", "aorta"])(REPORT, RNG)
    assert [unit.text for unit in units] == [
        "Cardiomegaly. Heart size is increased.",
        "Lungs are clear.",
        "aorta shows no significant abnormalities.",
    ]
    assert [unit.organ for unit in units] == [0, 1, 2]
    assert [unit.normal for unit in units] == [False, True, True]
    assert units[2].caption == caption_id("aorta shows no significant abnormalities.")
    assert units[1].caption == caption_id(
        "lung shows no significant abnormalities. Lungs are clear."
    )


def test_sections_of_organs_come_before_the_report():
    sections = REPORT | organ_sections({"lung": "A nodule"}, {"lung": "Nodule"})
    lung, heart = OrganCaptionSampler(["lung", "heart"])(sections, RNG)
    assert (lung.text, lung.normal) == ("Nodule. A nodule.", False)
    assert (heart.text, heart.normal) == ("heart shows no significant abnormalities.", True)


def test_published_takes_an_unsplit_report_for_normal_unless_a_decomposer_splits_it():
    (heart,) = OrganCaptionSampler(["heart"], compat="published")(REPORT, RNG)
    assert heart.normal

    def decomposer(sections):
        return DecomposedReport({"heart": "Large."}, {"heart": sections["impression"]})

    (heart,) = OrganCaptionSampler(["heart"], decomposer=decomposer, compat="published")(
        REPORT, RNG
    )
    assert (heart.text, heart.normal) == ("Cardiomegaly.Large.", False)


def test_what_is_odd_about_a_report_is_told():
    report = {"findings": "The heart is normal. Pericardial effusion."}
    sampler = OrganCaptionSampler(["heart"])
    assert sampler.remarks(report) == (
        "contradict themselves about the heart: it counts as abnormal",
    )
    assert not sampler(report, RNG)[0].normal
    assert sampler.remarks(REPORT) == sampler.remarks({"findings/heart": "Large."}) == ()
    assert OrganCaptionSampler(["lung", "aorta"]).remarks({"findings/heart": "Large."}) == (
        "say nothing of any of the organs lung, aorta: all are normal",
    )
    (remark,) = OrganCaptionSampler(["heart"], compat="published").remarks(report)
    assert remark.startswith("have a report that is not split")


def test_organs_are_checked():
    with pytest.raises(ValueError, match="each once"):
        OrganCaptionSampler(["lung", "lung"])
    with pytest.raises(ValueError, match=r"'hart' is not among the anatomies.*heart"):
        OrganCaptionSampler(["hart"]).remarks(REPORT)


def test_organs_that_the_rules_do_not_know_come_from_reports_that_are_split():
    sections = organ_sections({}, {"vena_cava": "Dilated."})
    (unit,) = OrganCaptionSampler(["vena_cava"])(sections, RNG)
    assert (unit.text, unit.normal) == ("Dilated.", False)


def test_a_batch_says_which_organ_each_text_is_about():
    sampler = OrganCaptionSampler(["lung", "heart"])
    samples = [sample(name, sampler(REPORT, RNG)) for name in "ab"]
    batch: Any = Collate(tokenizer, "hash")(samples)
    assert batch["text_organ"].tolist() == [0, 1, 0, 1]
    assert batch["text_normal"].tolist() == [True, False, True, False]
    assert batch["text_caption"][0] == batch["text_caption"][2] > 0
    moved: Any = move(batch, torch.device("meta"))
    assert moved["text_organ"].device.type == "cpu"
    assert moved["text_study"].device.type == "meta"


def test_texts_of_organs_and_of_studies_do_not_mix():
    samples = [
        sample("a", OrganCaptionSampler(["lung"])(REPORT, RNG)),
        sample("b", ReportText()(REPORT, RNG)),
    ]
    with pytest.raises(ValueError, match="1 of 2 texts"):
        Collate(tokenizer, "hash")(samples)
    assert "text_organ" not in Collate(tokenizer, "hash")(samples[1:])
