"""Ensembles of whole sentences, and UniMed-CLIP's own, byte for byte."""

import json
from pathlib import Path

import pytest

from medvlp.data.catalogue_sets import Registry
from medvlp.prompts.prompt_ensembles import PromptEnsembles

SPECIFICATION = Path(__file__).parents[3] / "shared" / "specs" / "unimed_clip_prompts.json"


def written(tmp_path: Path, text: str, suffix: str = ".yaml") -> str:
    path = tmp_path / f"mine{suffix}"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_published_strings_stay_as_they_are() -> None:
    prompts = PromptEnsembles.load("unimed_clip")
    assert prompts.hash.startswith("40822a39a95736d8")
    cardiomegaly = prompts.texts("CHEXPERT_CLASS_PROMPTS_webdataset", ["Cardiomegaly"])[0]
    assert "cardiomeg bital acy" in cardiomegaly[2]
    curly = prompts.texts("acl_mri_prompts", ["yes"])[0][-1]
    assert curly == "A disorder in the knee\u2019s anterior cruciate ligament is visible on MRI."


def test_they_are_those_of_the_specification() -> None:
    if not SPECIFICATION.is_file():
        pytest.skip(f"no specification at {SPECIFICATION}: only the hash was compared")
    tree = json.loads(SPECIFICATION.read_text(encoding="utf-8"))
    published = {
        name: {entry["class"]: entry["prompts"] for entry in classes}
        for name, classes in tree["sets"].items()
    }
    ours = PromptEnsembles.load("unimed_clip").sets
    assert ours == published
    assert {name: list(classes) for name, classes in ours.items()} == {
        name: list(classes) for name, classes in published.items()
    }
    registry = Registry.load()
    for name, entry in tree["datasets"].items():
        if name in registry.not_run:
            continue
        one = registry.sets[name]
        assert (one.prompts, one.averaged) == (entry["set"], entry["in_average_of_21"])
        assert (one.num_prompts == 1) == (entry["use"] == "first prompt only")


def test_every_set_of_the_registry_has_prompts_for_its_classes_in_index_order() -> None:
    prompts = PromptEnsembles.load("unimed_clip")
    for one in Registry.load().sets.values():
        assert list(prompts.sets[one.prompts]) == list(one.classes)
        texts = prompts.texts(one.prompts, one.classes, one.num_prompts)
        assert min(map(len, texts)) >= 1
        assert one.num_prompts is None or {len(text) for text in texts} == {one.num_prompts}


def test_templates_and_synonyms_become_sentences(tmp_path: Path) -> None:
    names = "{heart: heart, lung: [left, right]}"
    text = f"sets: {{organs: {{templates: ['a {{}}.', 'one {{}}'], names: {names}}}}}"
    texts = PromptEnsembles.load(written(tmp_path, text)).texts("organs", ["lung", "heart"])
    assert texts == [["a left.", "one left", "a right.", "one right"], ["a heart.", "one heart"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable"),
        ("[]", "has no `sets`"),
        ("sets: {a: [x]}", "expected class -> sentences"),
        ("sets: {a: {b: x}}", "class b: expected a list of sentences"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptEnsembles.load(written(tmp_path, text))


@pytest.mark.parametrize("sentences", ["[]", "['  ']", "null"])
def test_a_class_without_prompts_is_named(tmp_path: Path, sentences: str) -> None:
    prompts = PromptEnsembles.load(written(tmp_path, f"sets: {{a: {{b: [x], c: {sentences}}}}}"))
    assert prompts.texts("a", ["b"]) == [["x"]]
    with pytest.raises(ValueError, match="no prompt for the class c, d; write one"):
        prompts.texts("a", ["b", "c", "d"])


def test_names_that_are_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="unimed_clip is shipped"):
        PromptEnsembles.load("unimed")
    with pytest.raises(ValueError, match="no prompt set 'PCAN' in unimed_clip"):
        PromptEnsembles.load("unimed_clip").texts("PCAN", ["x"])
