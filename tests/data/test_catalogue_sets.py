"""The registry of UniMed-CLIP's 21 evaluation sets."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from medvlp.data.catalogue_sets import MODALITIES, FolderLayout, NameLayout, Registry, TableLayout

ENTRY = {
    "modality": "xray",
    "prompts": "mine",
    "classes": ["no", "yes"],
    "layout": {"table": "table.csv", "image": 0, "label": 1, "labels": [0, 1]},
}


def written(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"sets": {"a": {**ENTRY, **changes}}}))
    return str(path)


def test_the_21_sets_have_the_counts_of_the_published_columns() -> None:
    registry = Registry.load()
    counts = Counter(registry.sets[name].modality for name in registry.averaged)
    assert [counts[modality] for modality in MODALITIES] == [2, 4, 3, 2, 2, 8]
    two_class = [name for name, one in registry.sets.items() if one.two_class]
    assert two_class == [
        *("rsna_pneumonia", "meniscal_mri", "acl_mri"),
        *("breast_us", "thyroid_us", "refuge_retina"),
    ]
    assert set(registry.not_run) == {"radimagenet", "imagenet", "SICAPv2"}
    assert not registry.sets["dr_uwf"].averaged
    assert [n for n, one in registry.sets.items() if one.num_prompts] == ["rsna_pneumonia"]


def test_the_kind_of_layout_follows_from_its_keys() -> None:
    sets = Registry.load().sets
    assert isinstance(sets["NCK_CRC"].layout, FolderLayout)
    assert isinstance(sets["PCAM"].layout, NameLayout)
    organs = sets["CT_sagittal"].layout
    assert isinstance(organs, TableLayout)
    assert organs.table == "organs_sagittal/annotations.csv"
    assert organs.where == {"split": "test"}
    assert organs.labels[-1] == "10"


def test_a_registry_of_ones_own(tmp_path: Path) -> None:
    registry = Registry.load(written(tmp_path))
    assert registry.name == "mine"
    assert registry.averaged == ["a"]
    assert registry.sets["a"].layout == TableLayout("table.csv", 0, label=1, labels=("0", "1"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": {"tabel": "x"}}, "layout names none of table, folders, name"),
        ({"layout": {"table": "x", "picture": 0}}, "unknown key picture"),
        ({"layout": {"table": "x"}}, "lacks image; add it"),
        ({"layout": {"table": "x", "image": 0}}, "needs `label` and `labels`, or `one_hot`"),
        ({"layout": {"folders": ["one"]}}, "2 classes, but the layout names 1 labels"),
        ({"classes": ["a", "b", "c"]}, "3 classes, but the layout names 2 labels"),
        ({"layout": {"name": "[0-9]"}}, "has no group"),
        ({"modalty": "xray"}, "unknown key modalty; did you mean 'modality'"),
    ],
)
def test_entries_that_are_wrong(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Registry.load(written(tmp_path, **changes))


def test_two_class_figures_need_two_classes(tmp_path: Path) -> None:
    layout = {"folders": ["a", "b", "c"]}
    path = written(tmp_path, classes=["a", "b", "c"], layout=layout, two_class=True)
    with pytest.raises(ValueError, match="two_class, but there are 3 classes"):
        Registry.load(path)


def test_a_registry_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("[]")
    with pytest.raises(ValueError, match="has no `sets`"):
        Registry.load(str(tmp_path / "mine.yaml"))


def test_a_registry_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="unimed21 is shipped"):
        Registry.load("unimed22")
