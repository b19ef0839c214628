"""The twin of the 21 evaluation sets is read by the code that reads the real ones."""

import logging
from collections import Counter

import pytest

from medvlp.data.catalogue_sets import Registry
from medvlp.phantom.image_captions import name_of
from medvlp.phantom.image_painter import FINDINGS
from medvlp.phantom.image_twins import ImageTwin, TwinCatalogue
from medvlp.phantom.unimed_evaluation import painted_findings
from medvlp.prompts.prompt_ensembles import PromptEnsembles


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation")


def opened(folder, *, by_modality: bool = False, hard_cases: bool = False) -> TwinCatalogue:
    twin = ImageTwin(
        str(folder),
        dataset="unimed_evaluation",
        num_train=1,
        num_test=2,
        size=20,
        hard_cases=hard_cases,
    )
    images = TwinCatalogue(twin, by_modality=by_modality)
    images.open()
    return images


def test_every_class_of_all_21_sets_has_its_images(root):
    images = opened(root)
    assert not images.skips and not images.missing
    found = Counter(
        (item.metadata["dataset"], int(item.metadata["label"]))
        for item in map(images.__getitem__, range(len(images)))
    )
    registry = Registry.load("unimed21")
    assert len(registry.averaged) == 21
    assert found == {
        (name, label): 2
        for name in registry.averaged
        for label in range(len(registry.sets[name].classes))
    }


def test_the_six_sets_hold_all_that_is_painted(root):
    images = opened(root, by_modality=True)
    assert not images.skips
    registry, prompts = Registry.load("phantom_unimed"), PromptEnsembles.load("phantom_unimed")
    for modality, findings in FINDINGS.items():
        names = list(dict.fromkeys(name_of(modality, finding) for finding in findings))
        assert list(registry.sets[f"all_{modality}"].classes) == names
        assert list(prompts.sets[modality]) == names
    assert len(images) == 2 * sum(len(one.classes) for one in registry.sets.values())


def test_what_is_painted_for_a_class_can_be_painted():
    registry = Registry.load("unimed21")
    for name in registry.averaged:
        one = registry.sets[name]
        assert len(painted_findings()[name]) == len(one.classes)
        for findings in painted_findings()[name]:
            assert set(findings) <= set(FINDINGS[one.modality])


def test_hard_cases_are_left_out_and_named(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    images = opened(tmp_path, hard_cases=True)
    reasons = " ".join(skip.reason for skip in images.skips)
    for said in ("not there", "none of the classes", "no class", "unknown set", "not evaluated"):
        assert said in reasons
    assert not images.missing
