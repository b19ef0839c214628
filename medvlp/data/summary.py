"""What was prepared, in numbers: for the table that `prepare` ends with."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from medvlp.data.manifest import Manifest, Row
from medvlp.data.records import SPLITS

Table = list[tuple[str, str]]

_MANY = 12  # kinds that are listed one by one
_GROUPS = ("sex", "source", "manufacturer")  # of the metadata


def summarise(manifest: Manifest) -> Table:
    """List counts, spacings, sizes, value ranges, orientations, kinds, and what was skipped."""
    studies = list(manifest)
    scans = [scan for study in studies for scan in study["scans"]]
    counts = manifest.counts
    head = [
        ("studies", f"{counts['studies']:,} ({_parts(counts, SPLITS)})"),
        ("patients", f"{counts['patients']:,}"),
        ("scans", f"{counts['scans']:,}"),
    ]
    rows = _of_scans(studies, scans) if scans else []
    rows += [("stored fields", ", ".join(manifest.fields))]
    rows += [("texts", _texts(studies))]
    for name in ("questions", "lesions"):
        rows += [(name, f"{sum(len(study[name]) for study in studies):,}")]
    known = [study["metadata"] for study in studies]
    rows += [(name, _counted(of[name] for of in known if name in of)) for name in _GROUPS]
    skips = [
        (f"left out or changed: {reason}", f"{count:,}") for reason, count in manifest.skips.items()
    ]
    return [*head, *[row for row in rows if row[1] not in ("", "0")], *skips]


def _of_scans(studies: Sequence[Row], scans: Sequence[Row]) -> Table:
    return [
        ("raw spacing, mm", _spread(scan["raw_spacing_mm"] for scan in scans)),
        ("raw size, voxels", _spread(scan["raw_shape"][-3:] for scan in scans)),
        ("raw values, 0.5 to 99.5 %", _range([scan["raw_range"] for scan in scans])),
        ("raw orientation", _counted(scan["raw_orientation"] for scan in scans)),
        ("stored size, voxels", _spread(scan["shape"] for scan in scans)),
        ("stored values, 0.5 to 99.5 %", _range([scan["range"] for scan in scans])),
        ("modality", _counted(scan["modality"] for scan in scans)),
        ("sequences", _sequences(studies)),
    ]


def label_prevalence(manifest: Manifest) -> Table:
    """State for each label the share of studies that have it, per split, and how many know it."""
    labels, splits = manifest.table.labels(), np.array(manifest.table.column("split"))
    rows: Table = []
    for name, values in zip(manifest.label_names, labels.T, strict=True):
        parts = []
        for split in SPLITS:
            known = values[(splits == split) & (values >= 0)]
            if len(known):
                parts.append(f"{split} {100 * known.mean():.1f} % of {len(known):,}")
        rows.append((name, ", ".join(parts) or "unknown"))
    return rows


def _sequences(studies: Iterable[Row]) -> str:
    """Count the MR sequences: as metadata name them, else by the last word of the scan ids."""
    kinds: list[str] = []
    for study in studies:
        known = json.loads(study["metadata"].get("sequences", "{}"))
        ids = [scan["scan_id"] for scan in study["scans"] if scan["modality"] == "MR"]
        kinds += [known.get(scan_id) or _last_word(scan_id) for scan_id in ids]
    return _counted(kinds) if len(set(kinds)) <= 2 * _MANY else ""


def _last_word(scan_id: str) -> str:
    """Take what stands last in an id, without suffix.

    >>> _last_word("site/patient-001-t1c.nii.gz")
    't1c'
    """
    return re.split(r"[/_-]", scan_id.removesuffix(".gz").removesuffix(".nii"))[-1]


def _texts(studies: Sequence[Row]) -> str:
    lengths: dict[str, list[int]] = {}
    for study in studies:
        for section, text in study["texts"].items():
            lengths.setdefault(section, []).append(len(text))
    return ", ".join(
        f"{section} {len(all_of):,} of {np.mean(all_of):.0f} characters on average"
        for section, all_of in lengths.items()
    )


def _parts(counts: dict[str, int], names: Iterable[str]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in names if counts[name])


def _spread(triples: Iterable[list[float]]) -> str:
    values = np.array(list(triples), dtype=np.float64)
    low, middle, high = (np.round(part, 2) for part in np.percentile(values, (0, 50, 100), axis=0))
    return f"{_triple(middle)} (from {_triple(low)} to {_triple(high)})"


def _triple(values: np.ndarray) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _range(pairs: list[list[float]]) -> str:
    low, high = np.median(np.array(pairs, dtype=np.float64), axis=0)
    lowest, highest = np.array(pairs).min(), np.array(pairs).max()
    return f"{low:.4g} to {high:.4g} in the median scan; {lowest:.4g} to {highest:.4g} in all"


def _counted(values: Iterable[str]) -> str:
    ordered = Counter(values).most_common()
    told = ", ".join(f"{value} {count:,}" for value, count in ordered[:_MANY])
    rest = sum(count for _, count in ordered[_MANY:])
    return told + (f", {len(ordered) - _MANY} other kinds {rest:,}" if rest else "")
