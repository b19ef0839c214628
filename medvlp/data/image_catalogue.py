"""Labelled image sets that a catalogue file names, one after the other: UniMed-CLIP's 21."""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medvlp.data.catalogue_layouts import SetReader
from medvlp.data.catalogue_sets import CatalogueSet, FolderLayout, Registry
from medvlp.data.image_sets import ImageItem, ImageSet
from medvlp.data.packed_rows import PackedRows
from medvlp.data.records import Skip
from medvlp.data.tables import nearest
from medvlp.distributed.world import rank

_LOG = logging.getLogger(__name__)
_NOT_CHOSEN = "not among the chosen sets"
_PLACEHOLDER = "<path-to-test-set-folder>"  # as the published catalogue has it


class CatalogueImages(ImageSet):
    """All images of the sets of a catalogue, with their class indices.

    The catalogue is a JSON file, name -> {"path": folder, ...}, as UniMed-CLIP publishes it
    (clipeval/dataset_catalog.json; its `type`, `train` and `test` say nothing about these sets). A
    set that is not there or not of its layout is left out by name, an image whose label is
    unsound likewise; the rest goes on.

    An item's metadata are `dataset`, `modality` (the true one) and `label` (the class index).

    Args:
        catalogue: Path of the JSON file.
        root: Relative paths of the catalogue, and its `<path-to-test-set-folder>`, are this
            folder's; None is the catalogue's own.
        local_data: Folder of the tables that do not lie with the images; None is `local_data`
            below `root`.
        registry: "unimed21", or a YAML file of the same form for sets of your own.
        sets: Only these; None takes all.
        compat: "published" counts an image as often as its table names it (19 of ODIR-5K's stand
            there twice), and reads tables as the published code does, see `SetReader`.
        name: For messages and the cache.

    Attributes:
        missing: Sets without images, by name, and why.
    """

    def __init__(
        self,
        catalogue: str,
        *,
        root: str | None = None,
        local_data: str | None = None,
        registry: str = "unimed21",
        sets: Sequence[str] | None = None,
        compat: Literal["published"] | None = None,
        name: str = "unimed21",
    ) -> None:
        self.catalogue, self.name = Path(catalogue), name
        self.root = Path(root) if root is not None else self.catalogue.parent
        self.local_data = Path(local_data) if local_data is not None else self.root / "local_data"
        self.registry = Registry.load(registry)
        self.compat: Literal["published"] | None = compat
        for chosen in sets or ():
            if chosen not in self.registry.sets:
                known = self.registry.sets
                raise ValueError(
                    f"there is no set {chosen!r}{nearest(chosen, known)}; known are "
                    f"{', '.join(known)}"
                )
        self.chosen = None if sets is None else list(sets)
        self.skips, self.missing = [], {}
        self._rows, self._stamp = PackedRows([]), ""

    def open(self) -> None:
        """Read the catalogue, and tables and folders of its sets."""
        if len(self._rows):
            return
        self.skips, self.missing = [], {}
        rows: list[dict[str, Any]] = []
        states: list[tuple[str, int, int, int]] = []
        for name, path in self._paths().items():
            reader = SetReader(
                self.registry.sets[name],
                path,
                self.local_data,
                other_folders=self._folder_names(),
                compat=self.compat,
            )
            try:
                rows += self._found(reader, states)
            except (OSError, ValueError) as error:
                self.missing[name] = str(error)
            self.skips += reader.skips
        self.skips += [
            Skip(name, f"the set is left out: {why}")
            for name, why in self.missing.items()
            if why != _NOT_CHOSEN
        ]
        self._report()
        if not rows:
            raise ValueError(
                f"{self.catalogue}: no image of any set is there: "
                + "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
            )
        self._rows = PackedRows(rows)
        self._stamp = hashlib.sha256(repr(states).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """State the sets, and paths, labels, sizes and times of their images."""
        sets = Counter(row["metadata"]["dataset"] for row in self._rows)
        return {"name": self.name, "sets": dict(sets), "stamp": self._stamp}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ImageItem:
        row = self._rows[index]
        content = Path(row.pop("path")).read_bytes()
        return ImageItem(content=content, **row)

    def text_length(self, index: int) -> int:
        """Return 0: these images have no texts."""
        return 0

    def _paths(self) -> dict[str, Path]:
        """Return the folder of every set to read, in the order of the registry."""
        entries = self._entries()
        paths: dict[str, Path] = {}
        for name in self.registry.sets:
            entry = entries.get(name)
            if self.chosen is not None and name not in self.chosen:
                self.missing[name] = _NOT_CHOSEN
            elif entry is None:
                if name in self.registry.averaged:
                    self.missing[name] = f"{self.catalogue} does not name it; add its path"
            elif not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
                self.missing[name] = f'{self.catalogue}: its entry has no "path"; add the folder'
            else:
                path = entry["path"].replace(_PLACEHOLDER, str(self.root))
                paths[name] = self.root / path
        return paths

    def _entries(self) -> dict[str, Any]:
        if not self.catalogue.is_file():
            raise FileNotFoundError(
                f"{self.catalogue} is not there; it names the folder of each set, as in "
                '{"PCAM": {"path": "pcam"}}'
            )
        try:
            entries = json.loads(self.catalogue.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.catalogue} is not readable JSON: {error}") from error
        if not isinstance(entries, dict):
            raise ValueError(f'{self.catalogue}: expected name -> {{"path": folder}}')
        known = self.registry.sets
        for name in entries:
            if name in self.registry.not_run:
                self.skips.append(Skip(name, f"not evaluated: {self.registry.not_run[name]}"))
            elif name not in known:
                advice = f"{nearest(name, known)}; known are {', '.join(known)}"
                self.skips.append(Skip(name, f"{self.catalogue} names an unknown set{advice}"))
        return entries

    def _folder_names(self) -> frozenset[str]:
        layouts = [one.layout for one in self.registry.sets.values()]
        names = [layout.folders for layout in layouts if isinstance(layout, FolderLayout)]
        return frozenset(name for folders in names for name in folders)

    def _found(
        self, reader: SetReader, states: list[tuple[str, int, int, int]]
    ) -> list[dict[str, Any]]:
        """Return the rows of one set whose files are there."""
        one, rows = reader.one, []
        seen: Counter[str] = Counter()
        listed = reader.images()
        for name, label in listed:
            path, image_id = reader.root / name, f"{one.name}/{name}"
            seen[name] += 1
            if seen[name] > 1 and self.compat != "published":
                reader.skips.append(Skip(image_id, "named again; its first row counts"))
                continue
            try:
                state = path.stat()
            except OSError:
                reader.skips.append(Skip(image_id, "the image file is not there"))
                continue
            states.append((image_id, label, state.st_size, state.st_mtime_ns))
            rows.append(_row(one, name, path, label, repeat=seen[name] - 1))
        if not rows:
            first = f"; the first: {reader.root / listed[0][0]}" if listed else ""
            raise ValueError(
                f"no image of {len(listed)} with a sound label is there{first}; check its path"
            )
        return rows

    def _report(self) -> None:
        """Say once, on the first rank, which sets and how many images are left out."""
        if rank() != 0:
            return
        missing = {name: why for name, why in self.missing.items() if why != _NOT_CHOSEN}
        for reason in dict.fromkeys(missing.values()):
            names = [name for name, own in missing.items() if own == reason]
            _LOG.warning("left out: %s: %s", ", ".join(names), reason)
        reasons = Counter(skip.reason for skip in self.skips if skip.id not in missing)
        for reason, count in reasons.most_common():
            first = next(skip.id for skip in self.skips if skip.reason == reason)
            _LOG.warning("left out, %d x: %s (the first: %s)", count, reason, first)
        wanted = self.registry.averaged if self.chosen is None else self.chosen
        averaged = [self.registry.sets[name] for name in wanted]
        there = {one.modality for one in averaged if one.name not in self.missing}
        for modality in dict.fromkeys(one.modality for one in averaged):
            if modality not in there:
                own = [one.name for one in averaged if one.modality == modality]
                _LOG.warning("no image of modality %s: give one of %s", modality, ", ".join(own))


def _row(one: CatalogueSet, name: str, path: Path, label: int, *, repeat: int) -> dict[str, Any]:
    image_id = f"{one.name}/{name}"
    match = re.search(one.patient, name) if one.patient else None
    return {
        "image_id": f"{image_id} ({repeat})" if repeat else image_id,
        "patient_id": f"{one.name}/{match[1]}" if match else image_id,
        "path": str(path),
        "metadata": {"dataset": one.name, "modality": one.modality, "label": str(label)},
    }
