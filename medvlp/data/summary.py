"""What was prepared, in numbers: for the table that `prepare` ends with."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from medvlp.data.manifest import Manifest
from medvlp.data.records import SPLITS

Table = list[tuple[str, str]]


def summarise(manifest: Manifest) -> Table:
    """List counts, spacings, sizes, value ranges, orientations and what was skipped."""
    scans = [scan for index in range(len(manifest)) for scan in manifest[index]["scans"]]
    counts = manifest.counts
    rows = [
        ("studies", f"{counts['studies']:,} ({_parts(counts, SPLITS)})"),
        ("patients", f"{counts['patients']:,}"),
        ("scans", f"{counts['scans']:,}"),
        ("raw spacing, mm", _spread(scan["raw_spacing_mm"] for scan in scans)),
        ("raw size, voxels", _spread(scan["raw_shape"] for scan in scans)),
        ("stored size, voxels", _spread(scan["shape"] for scan in scans)),
        ("values, 0.5 to 99.5 %", _range([scan["range"] for scan in scans])),
        ("raw orientation", _counted(scan["raw_orientation"] for scan in scans)),
        ("modality", _counted(scan["modality"] for scan in scans)),
    ]
    rows += [(f"skipped: {reason}", f"{count:,}") for reason, count in manifest.skips.items()]
    return rows


def label_prevalence(manifest: Manifest) -> Table:
    """State for each label the share of studies that have it, per split, and how many know it."""
    studies = [manifest[index] for index in range(len(manifest))]
    rows: Table = []
    for name in manifest.label_names:
        parts = []
        for split in SPLITS:
            values = [s["labels"].get(name, -1) for s in studies if s["split"] == split]
            known = [value for value in values if value >= 0]
            if known:
                parts.append(f"{split} {100 * sum(known) / len(known):.1f} % of {len(known):,}")
        rows.append((name, ", ".join(parts) or "unknown"))
    return rows


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
    return f"{low:.0f} to {high:.0f} in the median scan; {lowest:.0f} to {highest:.0f} in all"


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{value} {count:,}" for value, count in Counter(values).most_common())
