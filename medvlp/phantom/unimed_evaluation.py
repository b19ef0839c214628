"""Write a phantom twin of the 21 sets that UniMed-CLIP is evaluated on, each in its own layout.

Beside them lie a catalogue as published, `dataset_catalog.json`, and six sets of our own: for each
modality all that can be painted of it, `dataset_catalog_by_modality.json`, registry and prompts
"phantom_unimed". No image is one of the training twin's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.catalogue_sets import CatalogueSet, FolderLayout, Registry
from medvlp.phantom.image_captions import name_of
from medvlp.phantom.image_file import ODD_FORMS, Form, encode
from medvlp.phantom.image_painter import FINDINGS, paint
from medvlp.phantom.nifti_file import write_bytes
from medvlp.phantom.tables import Row, write_json, write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.unimed_evaluation_layouts import PlacedImage, place, write_set_table

TITLE = "UniMed-CLIP's evaluation sets"
FORMAT_VERSION = 1

_SEED = 21  # parts these images from those of the training twin
_FORMS: dict[str, Form] = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "tif": "TIFF"}
_ODD: dict[str, Form] = {
    "LC25000_lung": ODD_FORMS[1],
    "BACH": ODD_FORMS[2],
    "rsna_pneumonia": ODD_FORMS[0],
}
_NOT_RUN = ("radimagenet", "imagenet", "SICAPv2")


@dataclass(frozen=True)
class WrittenSet:
    """What a set adds to the table of truth, and its hard cases."""

    rows: list[Row]
    hard_cases: list[dict[str, str]]


def write_unimed_evaluation_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    Of each class of each set there are `num_test` images and, where the set has other splits too,
    `num_train` in one of them; of about `shape[1]` pixels along each side. Hard cases are a missing
    file, a label outside the classes, a folder that is no class, odd image modes, a broken image,
    and a set in the catalogue that nobody knows.
    """
    writer = TwinWriter(TITLE, FORMAT_VERSION, _plan, _write, _write_tables)
    return writer.build(root, parameters, num_workers=num_workers)


@lru_cache(maxsize=1)
def painted_findings() -> dict[str, list[list[str]]]:
    """Return, for each set and class, what is painted, one after the other."""
    text = resources.files("medvlp.phantom").joinpath("unimed_evaluation.json").read_text("utf-8")
    table = {name: row for name, row in json.loads(text).items() if name != "note"}
    for modality, findings in FINDINGS.items():
        named: dict[str, list[str]] = {}
        for finding in findings:
            named.setdefault(name_of(modality, finding), []).append(finding)
        table[f"all_{modality}"] = list(named.values())
    return table


def _plan(parameters: TwinParameters) -> list[CatalogueSet]:
    return [
        registry.sets[name]
        for registry in (Registry.load("unimed21"), Registry.load("phantom_unimed"))
        for name in registry.averaged
    ]


def folder_of(name: str) -> str:
    """Name the folder of a set: the two sets of skin share one, those by modality another."""
    if name.startswith("all_"):
        return "by_modality"
    return "skin" if name.startswith("skin_") else name


def _write(root: Path, parameters: TwinParameters, one: CatalogueSet) -> WrittenSet:
    folder, images = root / folder_of(one.name), list(_images(one, parameters))
    rows: list[Row] = []
    for image in images:
        finding = _finding(one, image)
        path = folder / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _painted(one, image, finding, parameters))
        rows.append(
            {
                "set": one.name,
                "image": str(path.relative_to(root)),
                "held_out": int(image.held_out),
                "label": image.label,
                "modality": one.modality,
                "finding": finding,
            }
        )
    extra, cases = _harden(one, folder, images) if parameters.hard_cases else ([], [])
    write_set_table(one, folder, root / "local_data", images, extra)
    return WrittenSet(rows, cases)


def _images(one: CatalogueSet, parameters: TwinParameters) -> Iterator[PlacedImage]:
    number = 0
    has_splits = bool(getattr(one.layout, "where", None))
    for held_out, count in (
        (False, parameters.num_train * has_splits),
        (True, parameters.num_test),
    ):
        for _ in range(count):
            for label in range(len(one.classes)):
                yield place(one, number, label, held_out=held_out)
                number += 1


def _finding(one: CatalogueSet, image: PlacedImage) -> str:
    choice = painted_findings()[one.name][image.label]
    return choice[image.number // len(one.classes) % len(choice)]


def _painted(
    one: CatalogueSet, image: PlacedImage, finding: str, parameters: TwinParameters
) -> bytes:
    place_of_set = list(painted_findings()).index(one.name)
    generator = np.random.default_rng((parameters.seed, _SEED, place_of_set, image.number))
    size = parameters.shape[1] + int(generator.integers(parameters.shape[1] // 8 + 1))
    form = _FORMS[image.path.rsplit(".", 1)[1]]
    if parameters.hard_cases and image.number // len(one.classes) % 3 == 0:
        form = _ODD.get(one.name, form)
    return encode(paint(one.modality, finding, generator, size=size), form)


def _harden(
    one: CatalogueSet, folder: Path, images: list[PlacedImage]
) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """Spoil a set; returns rows to add to its table, and what was done."""
    extra: list[tuple[str, str]] = []
    cases = [{"kind": _ODD[one.name], "study": one.name}] if one.name in _ODD else []
    if one.name == "thyroid_us":
        extra.append(("gone.jpg", "benign"))
        cases.append({"kind": "missing file", "study": f"{one.name}/gone.jpg"})
    elif one.name == "dr_regular":
        extra.append((images[0].cell, "7"))
        cases.append({"kind": "label outside the classes", "study": one.name})
    elif one.name == "NCK_CRC" and isinstance(one.layout, FolderLayout):
        background = folder / one.layout.folder / "BACK"
        background.mkdir(parents=True, exist_ok=True)
        write_bytes(background / "image00000.tif", (folder / images[0].path).read_bytes())
        cases.append({"kind": "folder that is no class", "study": str(background.name)})
    elif one.name == "Osteo":
        path = folder / images[-1].path
        write_bytes(path, path.read_bytes()[:200])
        cases.append({"kind": "broken image", "study": f"{one.name}/{images[-1].path}"})
    return extra, cases


def _write_tables(root: Path, written: list[WrittenSet]) -> dict[str, Any]:
    rows = [row for one in written for row in one.rows]
    write_table(root / "ground_truth" / "images.csv", rows[0], rows)
    names = list(dict.fromkeys(str(row["set"]) for row in rows))
    cases = [case for one in written for case in one.hard_cases]
    published = [name for name in names if not name.startswith("all_")]
    published += _NOT_RUN if cases else ()
    if cases:
        published.append("chexpert-5x2000")
        cases.append({"kind": "unknown set", "study": published[-1]})
    for file, own in (
        ("dataset_catalog.json", published),
        ("dataset_catalog_by_modality.json", [name for name in names if name.startswith("all_")]),
    ):
        write_json(root / file, {name: _entry(name) for name in own})
    return {"num_volumes": len(rows), "hard_cases": cases}


def _entry(name: str) -> dict[str, str]:
    return {"path": folder_of(name), "type": "special", "train": "train", "test": "test"}
