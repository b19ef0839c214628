"""From a data set's raw files to a cache folder with its manifest."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from medvlp.data.cache import Facts, VolumeCache, require_writable
from medvlp.data.engine import Engine
from medvlp.data.exclusive import exclusive
from medvlp.data.manifest import Manifest, Row, dataset_folder, write_manifest
from medvlp.data.quarantine import (
    check_share,
    quarantine_file,
    summarise_skips,
    write_quarantine,
)
from medvlp.data.read_scan import fingerprint, read_scan
from medvlp.data.recipe import Recipe
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.tables import nearest
from medvlp.data.unit_range import unpack_unit
from medvlp.data.value_range import require_finite, thinned, value_range

OnScan = Callable[["Outcome", int], None]
"""Told of each scan as it is done, with the number of scans in all: for progress bars."""


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        scan_id: Of the record.
        path: Of the record.
        facts: What the cache knows of it; None if it was refused.
        reason: Why it was refused.
        reused: Whether a sound cache entry was found and kept.
    """

    scan_id: str
    path: Path
    facts: Facts | None = None
    reason: str = ""
    reused: bool = False


@dataclass(frozen=True)
class _Job:
    record: ScanRecord
    recipe: Recipe
    cache: VolumeCache
    device: str

    def __str__(self) -> str:
        return f"{self.record.scan_id} ({self.record.path})"


def prepare_dataset(
    source: StudySource,
    recipe: Recipe,
    *,
    cache_dir: Path,
    engine: Engine,
    max_quarantine_share: float = 0.05,
    device: str = "cpu",
    on_scan: OnScan | None = None,
) -> Manifest:
    """Prepare every scan that is not in the cache yet, then write manifest and quarantine.csv.

    May be stopped or killed and run again at any time: finished volumes are kept, the manifest
    comes last, and the outcome is that of one uninterrupted run, byte for byte. Scans that were
    refused are tried again.

    Args:
        source: The data set.
        recipe: How volumes are made.
        cache_dir: Holds all data sets; this one gets `<name>/<recipe hash>`.
        engine: Where the work runs.
        max_quarantine_share: Largest share of scans that may be refused.
        device: Where recipes compute, "cpu" or "cuda".
        on_scan: Called in this process after each scan.

    Raises:
        PermissionError: If the cache cannot be written, before any work.
        FileNotFoundError, ValueError: If the data set is not there or its tables are not right.
        PreparationError: If too many scans were refused; quarantine.csv says which and why.
    """
    folder = dataset_folder(cache_dir, source.name, recipe.stored_hash)
    require_writable(folder)
    with exclusive(folder):
        studies = _studies(source)
        cache = VolumeCache(folder / "volumes")
        remove_leftovers(folder)
        jobs = [_Job(scan, recipe, cache, device) for scan in _scans(studies).values()]
        outcomes = _outcomes(engine, jobs, on_scan)
        skips = _quarantine(folder, source, studies, outcomes, allowed=max_quarantine_share)
        return write_manifest(folder, _rows(studies, outcomes), _dataset(source, recipe, skips))


def _studies(source: StudySource) -> list[StudyRecord]:
    source.materialise()
    studies = list(source.studies())
    _require_sound(source, studies)
    return studies


def _quarantine(
    folder: Path,
    source: StudySource,
    studies: list[StudyRecord],
    outcomes: dict[str, Outcome],
    *,
    allowed: float,
) -> list[Skip]:
    """Write down what was refused or corrected, and stop where too much was."""
    refused = _refused(studies, outcomes)
    skips = [*source.skips, *refused, *_corrected(studies, outcomes), *_lost(studies, outcomes)]
    write_quarantine(quarantine_file(folder), skips)
    check_share(refused, len(outcomes), allowed=allowed, folder=folder)
    return skips


def _scans(studies: list[StudyRecord]) -> dict[str, ScanRecord]:
    """List all scans, one that studies share once."""
    return {scan.scan_id: scan for study in studies for scan in study.scans}


def _outcomes(engine: Engine, jobs: list[_Job], on_scan: OnScan | None) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for outcome in engine.run(prepare_scan, jobs):
        outcomes[outcome.scan_id] = outcome
        if on_scan is not None:
            on_scan(outcome, len(jobs))
    return outcomes


def prepare_scan(job: _Job) -> Outcome:
    """Read, prepare and store one scan; whatever is wrong with it becomes its outcome's reason.

    Raises:
        OSError: If the cache cannot be written: that is not the scan's fault and stops the run.
    """
    record, cache = job.record, job.cache
    try:
        made_of = fingerprint(record)
        facts = _sound_facts(job, made_of)
        if facts is not None:
            return Outcome(record.scan_id, record.path, facts, reused=True)
        scan = read_scan(record, job.recipe.companions, job.recipe.arrays)
        prepared = job.recipe.prepare(scan, device=job.device)
        require_finite(prepared.arrays)
    except Exception as error:  # one bad scan of any kind must not stop the other thousands
        reason = str(error) if isinstance(error, (ValueError, OSError)) else repr(error)
        return Outcome(record.scan_id, record.path, reason=" ".join(reason.split()))
    stored = prepared.arrays["image"]
    raw = thinned(scan.array) * scan.rescale.slope + scan.rescale.intercept
    facts = {
        **prepared.facts,
        "fingerprint": made_of,
        "shape": list(stored.shape),
        "range": value_range(unpack_unit(thinned(stored))),
        "raw_range": value_range(raw),
        "raw_shape": list(scan.array.shape),
        "raw_spacing_mm": [round(length, 6) for length in scan.spacing_mm],
        "raw_orientation": scan.orientation,
        "modality": scan.modality,
        "corrections": [
            *scan.provenance.get("corrections", ()),
            *prepared.facts.get("corrections", ()),
        ],
    }
    for name, array in prepared.arrays.items():
        if name != "image":
            cache.write(record.scan_id, array, {"fingerprint": made_of}, field=name)
    cache.write(record.scan_id, stored, facts)  # last: it makes the scan count as prepared
    return Outcome(record.scan_id, record.path, facts)


def remove_leftovers(folder: Path) -> int:
    """Delete what killed writers left in a data set's folder; returns how many files."""
    beside = list(folder.glob("*.tmp"))
    for path in beside:
        path.unlink(missing_ok=True)
    return len(beside) + VolumeCache(folder / "volumes").remove_leftovers()


def _sound_facts(job: _Job, made_of: str) -> Facts | None:
    """Read what the cache has of a scan, if that is all of it and made of these very files."""
    try:
        facts = [job.cache.facts(job.record.scan_id, field) for field in job.recipe.fields]
    except Exception:  # there is no end to what a damaged file does to a decoder: make it again
        return None
    if any(known is None or known.get("fingerprint") != made_of for known in facts):
        return None
    return facts[job.recipe.fields.index("image")]


def _require_sound(source: StudySource, studies: list[StudyRecord]) -> None:
    if not studies:
        left_out = f"; {len(source.skips)} were left out, the first: {source.skips[:1]}"
        raise ValueError(f"{source.name} has no study{left_out if source.skips else ''}")
    scans = _scans(studies)
    others = [s.scan_id for study in studies for s in study.scans if s != scans[s.scan_id]]
    ids = {
        "study": Counter(study.study_id for study in studies),
        "scan": Counter([*scans, *others]),  # studies may share a scan, but not an id alone
    }
    for what, counter in ids.items():
        name, count = counter.most_common(1)[0]
        if count > 1:
            raise ValueError(f"{source.name} has the {what} id {name!r} {count} times")
    known = set(source.label_names)
    for name in {name for study in studies for name in study.labels} - known:
        advice = nearest(name, known)
        raise ValueError(f"{source.name} has a label {name!r} that it does not name{advice}")


def _rows(studies: list[StudyRecord], outcomes: dict[str, Outcome]) -> list[Row]:
    return [row for study in studies if (row := _row(study, outcomes))["scans"]]


def _row(study: StudyRecord, outcomes: dict[str, Outcome]) -> Row:
    scans = []
    for scan in study.scans:
        facts = outcomes[scan.scan_id].facts
        if facts is not None:
            kept = {name: value for name, value in facts.items() if name != "fingerprint"}
            scans.append({**kept, "scan_id": scan.scan_id})
    return {
        "study_id": study.study_id,
        "patient_id": study.patient_id,
        "split": study.split,
        "scans": scans,
        "texts": dict(study.texts),
        "labels": dict(study.labels),
        "metadata": dict(study.metadata),
        "questions": [asdict(question) for question in study.questions],
        "lesions": [asdict(lesion) for lesion in study.lesions],
    }


def _refused(studies: list[StudyRecord], outcomes: dict[str, Outcome]) -> list[Skip]:
    scans = [outcomes[scan_id] for scan_id in _scans(studies)]
    return [Skip(str(scan.path), scan.reason) for scan in scans if scan.facts is None]


def _corrected(studies: list[StudyRecord], outcomes: dict[str, Outcome]) -> list[Skip]:
    scans = [outcomes[scan_id] for scan_id in _scans(studies)]
    return [
        Skip(str(scan.path), text)
        for scan in scans
        if scan.facts is not None
        for text in scan.facts.get("corrections", ())
    ]


def _lost(studies: list[StudyRecord], outcomes: dict[str, Outcome]) -> list[Skip]:
    lost = [
        study.study_id
        for study in studies
        if all(outcomes[scan.scan_id].facts is None for scan in study.scans)
    ]
    return [Skip(study_id, "none of its scans could be prepared") for study_id in lost]


def _dataset(source: StudySource, recipe: Recipe, skips: list[Skip]) -> Row:
    return {
        "name": source.name,
        "source": source.describe(),
        "label_names": list(source.label_names),
        "recipe": recipe.describe_stored(),
        "recipe_hash": recipe.stored_hash,
        "fields": list(recipe.fields),
        "skips": summarise_skips(skips),
    }
