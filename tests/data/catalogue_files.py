"""A catalogue of tiny hand-made sets in every layout that a registry names."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from medvlp.data.catalogue_sets import (
    CatalogueSet,
    FolderLayout,
    Layout,
    NameLayout,
    Registry,
    TableLayout,
)


def write_image(path: Path, value: int, size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def write_catalogue(
    root: Path, registry: Registry, per_class: int = 1, leave_out: tuple[str, ...] = ()
) -> Path:
    """Write `per_class` images of each class of every set, and the catalogue; return its path.

    An image's brightness is its class index.
    """
    entries = {}
    for name, one in registry.sets.items():
        if name in leave_out or not one.averaged:
            continue
        write_set(one, root / name, root / "local_data", per_class)
        entries[name] = {
            "path": f"<path-to-test-set-folder>/{name}/",
            "type": "special",
            "train": "train",
            "test": "val",
        }
    path = root / "dataset_catalog.json"
    path.write_text(json.dumps(entries, indent=4))
    return path


def write_set(one: CatalogueSet, root: Path, local_data: Path, per_class: int) -> None:
    listed = [
        (label, f"{_stem(one.layout, number, label)}.png")
        for label in range(len(one.classes))
        for number in range(per_class)
    ]
    layout = one.layout
    for label, name in listed:
        write_image(root / layout.folder / _folder(layout, label) / name, label)
    if isinstance(layout, TableLayout):
        table = (local_data if layout.local else root) / layout.table
        write_table(table, layout, [(name, label) for label, name in listed])


def _stem(layout: Layout, number: int, label: int) -> str:
    return f"{number}_{label}" if isinstance(layout, NameLayout) else f"image{label}_{number}"


def _folder(layout: Layout, label: int) -> str:
    if isinstance(layout, FolderLayout):
        return layout.folders[label]
    if isinstance(layout, TableLayout) and layout.image_in_label_folder:
        return layout.labels[label]
    return ""


def write_table(path: Path, layout: TableLayout, images: list[tuple[str, int]]) -> None:
    """Write the table of these images, columns without a name called `c0`, `c1`, ..."""
    positions = [c for c in (layout.image, layout.label) if isinstance(c, int)]
    header = [f"c{number}" for number in range(max(positions, default=-1) + 1)]
    named = [
        c for c in (layout.image, layout.label, *layout.one_hot, *layout.where) if c is not None
    ]
    header += [c for c in named if isinstance(c, str)]

    def place(column: int | str) -> int:
        return column if isinstance(column, int) else header.index(column)

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for name, label in images:
            row = [""] * len(header)
            row[place(layout.image)] = name
            if layout.label is not None:
                text = layout.labels[label]
                row[place(layout.label)] = str([text]) if layout.in_list else text
            for column, value in layout.where.items():
                row[place(column)] = value
            for number, column in enumerate(layout.one_hot):
                row[place(column)] = str(float(number == label))
            writer.writerow(row)
