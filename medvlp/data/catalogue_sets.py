"""Registry of labelled image sets that are scored by prompts: UniMed-CLIP's 21, or your own."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from medvlp.data.tables import nearest

MODALITIES = ("xray", "fundus", "ct", "mri", "ultrasound", "pathology")
"""The six, in the order of UniMed-CLIP's evaluation."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class TableLayout:
    """A CSV file with a header names images and labels.

    Attributes:
        table: Below the set's path, or below the folder of local tables.
        image: Column of the image's path, by position from 0 or by name.
        folder: Below the set's path; image paths are relative to it.
        local: Whether the table lies with the local tables.
        label: Column of the label, likewise; None if `one_hot`.
        labels: What stands for each class, in index order.
        one_hot: A column for each class, in index order; the largest value names it.
        where: Columns and their values in the rows that belong to the set.
        in_list: Whether the label is the first entry of a Python list.
        image_in_label_folder: Whether the image lies in the folder of its label.
    """

    table: str
    image: int | str
    folder: str = ""
    local: bool = False
    label: int | str | None = None
    labels: tuple[str, ...] = ()
    one_hot: tuple[str, ...] = ()
    where: dict[str, str] = field(default_factory=dict)
    in_list: bool = False
    image_in_label_folder: bool = False


@dataclass(frozen=True)
class FolderLayout:
    """One folder of images for each class.

    Attributes:
        folders: Their names, in index order.
        folder: Below the set's path; holds them.
    """

    folders: tuple[str, ...]
    folder: str = ""


@dataclass(frozen=True)
class NameLayout:
    """One folder of images whose file names hold the class index.

    Attributes:
        name: Regular expression; its first group is the index.
        folder: Below the set's path.
    """

    name: str
    folder: str = ""


Layout = TableLayout | FolderLayout | NameLayout


@dataclass(frozen=True)
class CatalogueSet:
    """One labelled set.

    Attributes:
        name: In the catalogue.
        modality: The true one, of `MODALITIES` for UniMed-CLIP's sets.
        classes: In index order, as the prompt set names them.
        prompts: Name of its prompt set.
        layout: Where images and labels are.
        num_prompts: How many of the first prompts of each class are used; None for all.
        two_class: Whether AUC, F1, precision and recall of class 1 are scored besides accuracy.
        averaged: Whether it takes part in the means.
        patient: Regular expression whose first group, in an image's path, says whose it is.
        leakage: Why its images may have been seen in training; empty if nothing is known.
    """

    name: str
    modality: str
    classes: tuple[str, ...]
    prompts: str
    layout: Layout
    num_prompts: int | None = None
    two_class: bool = False
    averaged: bool = True
    patient: str = ""
    leakage: str = ""


@dataclass(frozen=True)
class Registry:
    """All sets of one evaluation.

    Attributes:
        name: Of the evaluation.
        sets: By their names, in the order of its tables.
        not_run: Sets that a catalogue may name but that are not evaluated, and why.
    """

    name: str
    sets: dict[str, CatalogueSet]
    not_run: dict[str, str]

    @classmethod
    def load(cls, name_or_path: str = "unimed21") -> "Registry":
        """Read the shipped registry, or a YAML file of the same form by its path.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If an entry lacks something or holds something unknown.
        """
        shipped = _FOLDER / f"{name_or_path}.yaml"
        path = shipped if shipped.is_file() else Path(name_or_path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no registry of sets {name_or_path!r}; unimed21 is shipped, or give the path of a "
                "YAML file like it"
            )
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict) or not isinstance(tree.get("sets"), dict):
            raise ValueError(f"{path} has no `sets`: name -> modality, prompts, classes, layout")
        sets = {name: _parse(name, entry, path) for name, entry in tree["sets"].items()}
        return cls(path.stem, sets, dict(tree.get("not_run") or {}))

    @property
    def averaged(self) -> list[str]:
        """Names of the sets that take part in the means."""
        return [name for name, one in self.sets.items() if one.averaged]


def _parse(name: str, entry: Mapping[str, Any], path: Path) -> CatalogueSet:
    where = f"{path}, set {name}"
    layout = dict(entry.get("layout") or {})
    kinds: dict[str, type[Layout]] = {
        "table": TableLayout,
        "folders": FolderLayout,
        "name": NameLayout,
    }
    kind = next((kinds[key] for key in kinds if key in layout), None)
    if kind is None:
        raise ValueError(f"{where}: layout names none of {', '.join(kinds)}; add one")
    built = _build(kind, layout, where)
    one = _build(CatalogueSet, {**entry, "name": name, "layout": built}, where)
    counts = {len(getattr(built, key, ())) for key in ("labels", "one_hot", "folders")} - {0}
    if counts - {len(one.classes)}:
        raise ValueError(
            f"{where}: {len(one.classes)} classes, but the layout names {max(counts)} labels; give "
            "one label for each class, in index order"
        )
    unnamed = isinstance(built, TableLayout) and (built.label is None or not built.labels)
    if unnamed and not getattr(built, "one_hot", ()):
        raise ValueError(f"{where}: the table needs `label` and `labels`, or `one_hot`")
    if one.two_class and len(one.classes) != 2:
        raise ValueError(f"{where}: two_class, but there are {len(one.classes)} classes")
    for pattern in filter(None, (one.patient, getattr(built, "name", ""))):
        if re.compile(pattern).groups < 1:
            raise ValueError(f"{where}: the regular expression {pattern} has no group")
    return one


def _build(kind: type[Any], entry: Mapping[str, Any], where: str) -> Any:
    known = {one.name: one.default is MISSING is one.default_factory for one in fields(kind)}
    for key in entry:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key}{nearest(key, known)}")
    lacking = [key for key, required in known.items() if required and key not in entry]
    if lacking:
        raise ValueError(f"{where}: lacks {', '.join(lacking)}; add it to the file")
    return kind(**{k: tuple(map(str, v)) if isinstance(v, list) else v for k, v in entry.items()})
