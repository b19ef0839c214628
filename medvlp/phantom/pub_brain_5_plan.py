"""Who is in a Pub-Brain-5 twin: sources, names, classes, series, hard cases. Nothing is painted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medvlp.data.pub_brain_5 import BRATS_SETS
from medvlp.phantom.head_twin import HARD_SEED, digits, hard_seed, ordinary_studies
from medvlp.phantom.twin_parameters import TwinParameters

KIND_OF = {
    "Normal": "",
    "Stroke": "stroke",
    "Glioma": "glioma",
    "Meningioma": "meningioma",
    "Metastasis": "metastasis",
}
"""Class to the finding that makes it."""

_STROKE_SERIES = ("DWI", "ADC", "FLAIR")
_FURTHER_STROKE_SERIES = ("T2w", "T1w", "SWI", "T1wC", "SWIMag")
_BRATS_SERIES = ("t1c", "t1n", "t2f", "t2w")
_NYU_SERIES = ("ct1", "flair", "t1", "t2", "rtstruct_mri")
_UCSF_SERIES = ("FLAIR", "T1post", "T1pre", "T2Synth", "subtraction")
CONTRAST_OF = {
    "T1": "t1",
    "T1w": "t1",
    "t1": "t1",
    "t1n": "t1",
    "T1pre": "t1",
    "T1wC": "t1c",
    "t1c": "t1c",
    "ct1": "t1c",
    "T1post": "t1c",
    "rtstruct_mri": "t1c",
    "T2w": "t2",
    "t2": "t2",
    "t2w": "t2",
    "T2Synth": "t2",
    "FLAIR": "flair",
    "flair": "flair",
    "t2f": "flair",
    "ADC": "adc",
    "SWI": "swi",
    "SWIMag": "swi",
}
"""Series of one contrast; DWI has two, PWI five, subtraction is the difference of two."""


@dataclass(frozen=True)
class PlannedStudy:
    """One study of the twin.

    Attributes:
        split: train or test.
        label: One of the five classes.
        study_id: Path below the published prefix.
        series: Names, in the order of writing.
        seed: Of everything in it.
        hard_case: Which hard case this is; empty for ordinary studies.
    """

    split: str
    label: str
    study_id: str
    series: tuple[str, ...]
    seed: tuple[int, ...]
    hard_case: str = ""

    @property
    def source(self) -> str:
        """Return the source's folder."""
        return self.study_id.split("/")[0]

    @property
    def name(self) -> str:
        """Return the study's folder."""
        return self.study_id.rpartition("/")[2]


def plan_studies(parameters: TwinParameters) -> list[PlannedStudy]:
    """List all studies: the five classes in turn, then the hard cases."""
    studies: list[PlannedStudy] = []
    for split, number, seed in ordinary_studies(parameters):
        label = list(KIND_OF)[number % len(KIND_OF)]
        studies.append(_ordinary(split, label, number // len(KIND_OF), seed))
    if parameters.hard_cases:
        studies += _hard(parameters)
    return studies


def _ordinary(split: str, label: str, turn: int, seed: tuple[int, ...]) -> PlannedStudy:
    rng = np.random.default_rng((*seed, 3))
    if label == "Normal":
        return PlannedStudy(split, label, f"open_bhb/sub-{digits(rng, 12)}", ("T1",), seed)
    if label == "Stroke":
        study_id = f"stroke/sub-{digits(rng, 8, '0123456789abcdef')}"
        return PlannedStudy(split, label, study_id, _some_stroke_series(rng), seed)
    if label == "Metastasis" and turn % 3 < 2:
        if turn % 3 == 0:
            study_id = f"nyu_mets/NYU_Mets_{digits(rng, 8, '123456789')}_{digits(rng, 10)}"
            series = tuple(name for name in _NYU_SERIES if name == "ct1" or rng.random() < 0.7)
            return PlannedStudy(split, label, study_id, series, seed)
        study_id = f"ucsf_mets/100{digits(rng, 3)}A"
        return PlannedStudy(split, label, study_id, _UCSF_SERIES, seed)
    dataset = {
        "Glioma": "BraTS-PED" if turn % 4 == 3 else "BraTS-GLI",
        "Meningioma": "BraTS-MEN",
        "Metastasis": "BraTS-MET",
    }[label]
    return _brats(split, label, dataset, rng, seed)


def _brats(
    split: str, label: str, dataset: str, rng: np.random.Generator, seed: tuple[int, ...]
) -> PlannedStudy:
    study_id = f"brats23/{split}/{BRATS_SETS[dataset]}/{dataset}-{digits(rng, 5)}-000"
    return PlannedStudy(split, label, study_id, _BRATS_SERIES, seed)


def _some_stroke_series(rng: np.random.Generator) -> tuple[str, ...]:
    count = int(rng.integers(0, len(_FURTHER_STROKE_SERIES) + 1))
    return (*_STROKE_SERIES, *_FURTHER_STROKE_SERIES[:count])


def _hard(parameters: TwinParameters) -> Iterator[PlannedStudy]:
    """List the hard cases, all of them to train on."""

    def planned(number: int, kind: str, label: str, study_id: str, *series: str) -> PlannedStudy:
        seed = hard_seed(parameters, number)
        return PlannedStudy("train", label, study_id, series, seed, kind)

    name = digits(np.random.default_rng((parameters.seed, HARD_SEED)), 3)
    nyu, eight = f"nyu_mets/NYU_Mets_99000{name}", (*_STROKE_SERIES, *_FURTHER_STROKE_SERIES)
    gli = "brats23/train/adult_glioma/BraTS-GLI-99"
    yield planned(0, "corrupt file", "Glioma", f"{gli}{name}-000", *_BRATS_SERIES)
    yield planned(1, "all scans corrupt", "Metastasis", f"{nyu}_0000000001", "ct1", "t1")
    yield planned(2, "many channels", "Stroke", f"stroke/sub-00000{name}", *_STROKE_SERIES, "PWI")
    yield planned(3, "one scan", "Stroke", f"stroke/sub-10000{name}", "DWI")
    yield planned(4, "eight scans", "Stroke", f"stroke/sub-20000{name}", *eight)
    yield planned(5, "odd spacing", "Metastasis", f"{nyu}_0000000002", "ct1", "flair", "t2")
    yield planned(6, "no folder", "Normal", f"open_bhb/sub-000000000{name}")
    yield planned(7, "not in the table", "Normal", f"open_bhb/sub-100000000{name}", "T1")
    yield planned(8, "two classes", "Glioma", f"{gli}{name}-001", *_BRATS_SERIES)
    yield planned(9, "empty series", "Stroke", f"stroke/sub-30000{name}", "FLAIR", "T2w")
