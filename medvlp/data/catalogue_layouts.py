"""Readers of the layouts in which labelled image sets come: a table, class folders, file names."""

import ast
import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from medvlp.data.catalogue_sets import CatalogueSet, FolderLayout, NameLayout, TableLayout
from medvlp.data.listing import folders_in
from medvlp.data.records import Skip
from medvlp.data.tables import column_position

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")

_WHOLE = re.compile(r"(\d+)\.0*")
_MAX_FIELD_CHARACTERS = 10_000_000


@dataclass
class SetReader:
    """Lists the images of one set with their class indices.

    Attributes:
        one: The set.
        root: Its path in the catalogue.
        local_data: Folder of the tables that do not lie with the images.
        other_folders: Folder names that belong to other sets and are passed over.
        compat: "published" takes the first line of a table for its header whatever it holds, and
            the first of several equally marked classes.
        skips: Gets what is left out, and why.
    """

    one: CatalogueSet
    root: Path
    local_data: Path
    other_folders: frozenset[str] = frozenset()
    compat: Literal["published"] | None = None
    skips: list[Skip] = field(default_factory=list)

    def images(self) -> list[tuple[str, int]]:
        """Return path below `root` and class index of every image, unsound labels left out.

        Raises:
            FileNotFoundError: If the set's folder, table or a class folder is not there.
            ValueError: If a table is not of the layout.
        """
        layout = self.one.layout
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; correct its path")
        if isinstance(layout, TableLayout):
            return list(self._table(layout))
        if isinstance(layout, FolderLayout):
            return list(self._folders(layout))
        return list(self._names(layout))

    def _table(self, layout: TableLayout) -> Iterator[tuple[str, int]]:
        path = (self.local_data if layout.local else self.root) / layout.table
        header, rows = _read(path)
        image = column_position(path, header, layout.image)
        names = layout.one_hot or (layout.label,)
        columns = [column_position(path, header, name) for name in names if name is not None]
        if not layout.one_hot and header[columns[0]] in layout.labels:
            reason = "no header: its first line is an image"
            self.skips.append(Skip(str(path), reason + " (the published code loses it)"))
            rows = rows if self.compat == "published" else [header, *rows]
        if layout.where:
            rows = _matching(path, header, rows, layout.where)
        for row in rows:
            if len(row) != len(header):
                self.skips.append(Skip(str(path), "a row of more or fewer cells than the header"))
                continue
            name, cells = row[image].strip(), [row[column].strip() for column in columns]
            index = self._marked(name, cells) if layout.one_hot else self._index(name, cells[0])
            inside = PurePosixPath(name.replace("\\", "/"))
            if not name or inside.is_absolute() or ".." in inside.parts:
                self.skips.append(Skip(name or str(path), f"its path leads out of {self.root}"))
            elif index is not None:
                within = layout.labels[index] if layout.image_in_label_folder else ""
                yield str(PurePosixPath(layout.folder) / within / inside), index

    def _marked(self, name: str, cells: Sequence[str]) -> int | None:
        """Find the class with the largest value."""
        try:
            values = [float(cell) if cell else 0.0 for cell in cells]
        except ValueError:
            return self._refuse(name, "a class column holds no number")
        if values.count(max(values)) > 1 and self.compat != "published":
            return self._refuse(name, "not exactly one class is marked")
        return values.index(max(values))

    def _index(self, name: str, cell: str) -> int | None:
        """Find the class that a label stands for."""
        layout = self.one.layout
        assert isinstance(layout, TableLayout)
        label = cell
        if layout.in_list:
            try:
                label = str(ast.literal_eval(cell)[0]).strip()
            except (ValueError, SyntaxError, TypeError, LookupError):
                return self._refuse(name, f"its label {cell[:40]!r} is no list with an entry")
        elif whole := _WHOLE.fullmatch(cell):
            label = whole[1]
        if label not in layout.labels:
            known = ", ".join(layout.labels)
            return self._refuse(name, f"its label {label[:40]!r} is none of the classes {known}")
        return layout.labels.index(label)

    def _folders(self, layout: FolderLayout) -> Iterator[tuple[str, int]]:
        top = self.root / layout.folder
        missing = [name for name in layout.folders if not (top / name).is_dir()]
        if missing:
            raise FileNotFoundError(
                f"{top} lacks the class folder {', '.join(missing)}; all of "
                f"{', '.join(layout.folders)} are needed"
            )
        for folder in folders_in(top):
            if folder.name not in layout.folders and folder.name not in self.other_folders:
                count = len(_listed(folder))
                reason = f"a folder that is no class: its {count} files are left out"
                self.skips.append(Skip(str(folder), reason))
        for index, name in enumerate(layout.folders):
            for file in self._files(top / name):
                yield str(PurePosixPath(layout.folder) / name / file), index

    def _names(self, layout: NameLayout) -> Iterator[tuple[str, int]]:
        folder = self.root / layout.folder
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not there; it holds the images")
        count = len(self.one.classes)
        for file in self._files(folder):
            match = re.search(layout.name, file)
            if match is None or int(match[1]) >= count:
                known = f"expected a class index from 0 to {count - 1} as {layout.name!r} finds it"
                self._refuse(file, f"its name holds no label: {known}")
            else:
                yield str(PurePosixPath(layout.folder) / file), int(match[1])

    def _files(self, folder: Path) -> list[str]:
        names = _listed(folder)
        known = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        if len(known) < len(names):
            reason = f"{len(names) - len(known)} files that are no images by their names"
            self.skips.append(Skip(str(folder), reason))
        return known

    def _refuse(self, name: str, reason: str) -> None:
        self.skips.append(Skip(f"{self.one.name}/{name}", reason))


def _listed(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    return sorted(name for name in names if not name.startswith("."))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; it says which images belong to the set")
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a readable UTF-8 CSV table: {error}") from error
    if not lines:
        raise ValueError(f"{path} is empty; check the download")
    return [name.strip() for name in lines[0]], lines[1:]


def _matching(
    path: Path, header: Sequence[str], rows: Sequence[list[str]], where: dict[str, str]
) -> list[list[str]]:
    for name, value in where.items():
        column = column_position(path, header, name)
        found = sorted({row[column].strip() for row in rows if column < len(row)})
        rows = [row for row in rows if column >= len(row) or row[column].strip() == value]
        if not rows:
            raise ValueError(
                f"{path} has no row with {name} = {value}; found: {', '.join(found[:8]) or 'none'}"
            )
    return list(rows)
