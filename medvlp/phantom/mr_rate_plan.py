"""Who is in an MR-RATE twin: patients, studies, series, labels, hard cases. Nothing is painted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medvlp.data.choices import check_choice
from medvlp.phantom.head_twin import Seed, digits, hard_seed, ordinary_studies
from medvlp.phantom.twin_parameters import TwinParameters

KINDS = (
    (),
    ("stroke",),
    ("glioma",),
    ("meningioma",),
    ("metastasis",),
    ("intraparenchymal",),
    ("subdural",),
    ("cyst",),
    ("ventriculomegaly",),
)
"""What is found, one after the other; the last is no lesion but wide ventricles."""

TERMS = {
    "stroke": "Cerebral infarction",
    "intraparenchymal": "Cerebral hemorrhage",
    "metastasis": "Metastatic malignant neoplasm to brain",
    "meningioma": "Intracranial meningioma",
    "subdural": "Subdural intracranial hemorrhage",
    "cyst": "Arachnoid cyst",
    "glioma": "Glioma",
    "ventriculomegaly": "Ventriculomegaly",
}
"""Kinds of findings by their names in the label table."""

NORMAL = "normal"
"""How studies without a finding are called among the kinds."""

WITH_EDEMA = frozenset({"glioma", "metastasis", "meningioma", "intraparenchymal"})
_UID = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SECOND_STUDY_SHARE = 0.12
_VAL_EVERY = 8  # of the training studies, one is for validation
_NUM_BATCHES = 2


@dataclass(frozen=True)
class Series:
    """One series of a study.

    Attributes:
        series_id: {modality}-raw-{plane}, with a number if it repeats.
        modality: As the metadata table has it.
        contrast: Of `head_tissues`.
        plane: axial, coronal, sagittal.
        number: SeriesNumber: order of acquisition.
    """

    series_id: str
    modality: str
    contrast: str
    plane: str
    number: int


@dataclass(frozen=True)
class PlannedStudy:
    """One study of the twin.

    Attributes:
        split: train, val or test.
        batch: batch00, batch01.
        patient: patient_uid.
        study: study_uid.
        kinds: What is found.
        series: What was acquired.
        person_seed: Decides the anatomy.
        seed: Of everything else.
        hard_case: Which hard case this is; empty for ordinary studies.
    """

    split: str
    batch: str
    patient: str
    study: str
    kinds: tuple[str, ...]
    series: tuple[Series, ...]
    person_seed: tuple[int, ...]
    seed: tuple[int, ...]
    hard_case: str = ""


def plan_studies(parameters: TwinParameters) -> list[PlannedStudy]:
    """List all studies: the findings in turn, then the hard cases."""
    studies: list[PlannedStudy] = []
    kinds = chosen_kinds(parameters)
    for split, number, seed in ordinary_studies(parameters):
        before = studies[-1] if studies else None
        studies.append(_ordinary(split, number, seed, kinds[number % len(kinds)], before=before))
    if parameters.hard_cases:
        studies += _hard(parameters)
    return studies


def chosen_kinds(parameters: TwinParameters) -> tuple[tuple[str, ...], ...]:
    """List what is found, one after the other.

    Raises:
        ValueError: If a kind is unknown, or none is chosen.
    """
    if parameters.kinds is None:
        return KINDS
    check_choice("kinds", parameters.kinds, (NORMAL, *TERMS))
    return tuple(() if name == NORMAL else (name,) for name in parameters.kinds)


def _ordinary(
    split: str,
    number: int,
    seed: Seed,
    kinds: tuple[str, ...],
    *,
    before: PlannedStudy | None,
) -> PlannedStudy:
    """Plan a study; it may be the second one of the patient `before`."""
    rng = np.random.default_rng((*seed, 3))
    part = "val" if split == "train" and number % _VAL_EVERY == _VAL_EVERY - 1 else split
    again = number > 0 and rng.random() < _SECOND_STUDY_SHARE
    patient, person = digits(rng, 10, _UID), seed
    if again and before is not None and before.split == part:
        patient, person = before.patient, before.person_seed
    return PlannedStudy(
        split=part,
        batch=f"batch{number % _NUM_BATCHES:02d}",
        patient=patient,
        study=digits(rng, 10, _UID),
        kinds=kinds,
        series=_series(rng, int(rng.integers(1, 9))),
        person_seed=person,
        seed=seed,
    )


def _series(rng: np.random.Generator, count: int) -> tuple[Series, ...]:
    """Draw series in the order of acquisition; contrast medium is given in the middle."""
    wishes = [
        ("t1w", "T1w", "t1"),
        ("flair", "FLAIR", "flair"),
        ("t2w", "T2w", "t2"),
        ("t1w", "T1w", "t1c"),
        ("swi", "SWI", "swi"),
        ("t2w", "T2w", "t2"),
        ("t1w", "T1w", "t1c"),
        ("flair", "FLAIR", "flair"),
    ]
    # a short study keeps the series that show most: FLAIR and T1 after contrast medium
    kept = sorted([1, 3, 2, 0, 6, 4, 5, 7][:count])
    series: list[Series] = []
    seen: dict[str, int] = {}
    for place in kept:
        short, modality, contrast = wishes[place]
        plane = "axial" if place < 3 else ("axial", "sagittal", "coronal")[int(rng.integers(3))]
        name = f"{short}-raw-{plane[:3]}"
        seen[name] = seen.get(name, 0) + 1
        series_id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        series.append(Series(series_id, modality, contrast, plane, 2 + 3 * place))
    return tuple(series)


def _hard(parameters: TwinParameters) -> Iterator[PlannedStudy]:
    """List the hard cases, all of them to train on."""
    kinds = KINDS[1:5] if parameters.kinds is None else chosen_kinds(parameters)
    for number, (kind, count) in enumerate(
        (
            ("corrupt file", 4),
            ("all scans corrupt", 1),
            ("series without a file", 3),
            ("not in the metadata", 2),
            ("no report", 2),
            ("no labels", 2),
            ("still zipped", 2),
            ("eight scans", 8),
        )
    ):
        seed = hard_seed(parameters, number)
        rng = np.random.default_rng((*seed, 3))
        yield PlannedStudy(
            split="train",
            batch="batch01",
            patient=digits(rng, 10, _UID),
            study=digits(rng, 10, _UID),
            kinds=kinds[number % len(kinds)],
            series=_series(rng, count),
            person_seed=seed,
            seed=seed,
            hard_case=kind,
        )
