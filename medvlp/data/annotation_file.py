"""A training annotation file: which report strings and scans a study has, in the user's words."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.records import ScanRecord, Skip, StudyRecord


class Entry(NamedTuple):
    """What a file says of one study.

    Attributes:
        strings: Of its report.
        scans: Names of its scans; empty for all there are.
    """

    strings: tuple[str, ...]
    scans: tuple[str, ...]


class AnnotationFile:
    """Reports, and choices of scans, in the published JSON layouts of HLIP.

    Chest CT: `{study: {"recons": [volume, ...], "report": [text, ...]}}`, see
    `medvlp.data.annotations`. Brain MRI and head CT: `{study: {"series": {name: {...}},
    "report": [finding, ...]}}`. The strings become the sections "text_00", "text_01", ... of a
    study, in their order; `PermutedText` makes the published training text of them.

    A study of the training split that the file does not name, or names without a text, is not for
    training; studies of other splits that it does not name stay as they are.

    Args:
        path: The JSON file; None changes nothing.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = Path(path) if path else None

    def describe(self) -> dict[str, str]:
        """State where the file lies; nothing where there is none."""
        return {"annotations": str(self.path.resolve())} if self.path else {}

    def apply(self, studies: Iterable[StudyRecord], skips: list[Skip]) -> Iterator[StudyRecord]:
        """Yield the studies with the file's texts, and with the scans that it names.

        Args:
            studies: Of the data set.
            skips: Gets what is left out or named in vain.

        Raises:
            FileNotFoundError: If the file is not there.
            ValueError: If it is of another layout.
        """
        if self.path is None:
            yield from studies
            return
        entries = read_annotations(self.path)
        unused = dict.fromkeys(entries)
        for study in studies:
            unused.pop(study.study_id, None)
            entry = entries.get(study.study_id)
            if entry is None and study.split != "train":
                yield study
                continue
            texts = text_sections(entry.strings if entry else ())
            if not texts:
                reason = "names it without a text" if entry else "does not name it"
                reason = f"{self.path.name} {reason}: not for training, kept for evaluation"
                skips.append(Skip(study.study_id, reason))
            scans = self._named(study, entry.scans if entry else (), skips)
            if scans:
                yield replace(study, texts=texts, scans=scans)
        reason = f"{self.path.name} names it, but the data set has no such study"
        skips += [Skip(study_id, reason) for study_id in unused]

    def _named(
        self, study: StudyRecord, names: Sequence[str], skips: list[Skip]
    ) -> tuple[ScanRecord, ...]:
        if not names:
            return study.scans
        found = Counter(name for name in names for scan in study.scans if _is(scan, name))
        absent = [name for name in names if name not in found]
        if absent:
            reason = f"{len(absent)} of its annotated scans not there, such as {absent[0]}"
            skips.append(Skip(study.study_id, reason if found else f"{reason}: left out"))
        return tuple(scan for scan in study.scans if any(_is(scan, name) for name in names))


def read_annotations(path: Path) -> dict[str, Entry]:
    """Read an annotation file of either layout.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not JSON, or an entry is not as described.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; write one with: python -m medvlp.data.annotations --help"
        )
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path}: expected {{study: {{"report": [text, ...]}}}}, one or more')
    return {str(study): _entry(path, str(study), said) for study, said in content.items()}


def text_sections(strings: Sequence[str]) -> dict[str, str]:
    """Name the strings of a report as sections; their order stays.

    >>> text_sections(["No stroke.", " ", "Old bleeding."])
    {'text_00': 'No stroke.', 'text_01': 'Old bleeding.'}
    """
    said = [text.strip() for text in strings if text.strip()]
    return {f"text_{number:02d}": text for number, text in enumerate(said)}


def _entry(path: Path, study: str, said: Any) -> Entry:
    strings = said.get("report") if isinstance(said, Mapping) else None
    strings = [strings] if isinstance(strings, str) else strings
    if not isinstance(strings, list) or not all(isinstance(text, str) for text in strings):
        raise ValueError(
            f'{path}, study {study!r}: expected "report" with a list of texts, got {strings!r:.60}'
        )
    scans = said.get("recons", said.get("series", ()))  # a list, or a mapping by name
    if not isinstance(scans, list | dict | tuple):
        raise ValueError(f"{path}, study {study!r}: expected names of scans, got {scans!r:.60}")
    return Entry(tuple(strings), tuple(map(str, scans)))


def _is(scan: ScanRecord, name: str) -> bool:
    """Tell whether a file, the end of a scan's id, or a folder of it has this name."""
    bare = name.removesuffix(".gz").removesuffix(".nii")
    is_id = scan.scan_id in (name, bare) or scan.scan_id.endswith((f"/{bare}", f"_{bare}"))
    return is_id or scan.path.name == name or name in scan.scan_id.split("/")
