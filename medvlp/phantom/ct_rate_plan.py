"""Who is in a CT-RATE twin: patients, sessions, reconstructions, hard cases. Nothing is painted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from medvlp.phantom.finding import LABELS
from medvlp.phantom.grid import Grid
from medvlp.phantom.study import Kernel, PhantomStudy, sample_study
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.types import Size3D

_SPLIT_NUMBER = {"train": 0, "valid": 1}
_SESSION_SHARES = (0.86, 0.11, 0.03)  # patients with one, two, three sessions
_SECOND_RECONSTRUCTION_SHARE = 0.3
_HEIGHT_MM, _MIDDLE_Z_MM = 310.0, -12.0
_HARD_SEED = 977
_PREVALENCE = 0.3
HARD_KINDS = ("normal", "several scans", "odd spacing", "corrupt file")
"""Hard cases of CT-RATE's training split."""
_TWIN_FINDINGS = (frozenset({"Pleural effusion"}), frozenset({"Consolidation", "Atelectasis"}))
MIRRORED = 2 * len(_TWIN_FINDINGS)
"""Hard cases of the held-out split: pairs that differ in side only."""


def prevalence_of(parameters: TwinParameters) -> float:
    """Return the share of the sessions with each finding."""
    return _PREVALENCE if parameters.prevalence is None else parameters.prevalence


@dataclass(frozen=True)
class Session:
    """One visit of one patient: the unit that a report describes.

    Attributes:
        split: train or valid.
        patient: Its number.
        letter: a for the first visit.
        person_seed: Decides the anatomy.
        study_seed: Decides what is found, and all else but the anatomy.
        hard_case: Which hard case this is; empty for ordinary sessions.
        names: Exactly these findings, instead of a draw.
        side: Side of all findings that have one, instead of a draw.
    """

    split: str
    patient: int
    letter: str
    person_seed: tuple[int, ...]
    study_seed: tuple[int, ...]
    hard_case: str = ""
    names: frozenset[str] | None = None
    side: str | None = None

    @property
    def patient_name(self) -> str:
        """Return the patient's folder."""
        return f"{self.split}_{self.patient}"

    @property
    def name(self) -> str:
        """Return the session's folder."""
        return f"{self.patient_name}_{self.letter}"

    def study(self, parameters: TwinParameters) -> PhantomStudy:
        """Draw what is the matter with the patient."""
        return sample_study(
            self.person_seed,
            self.study_seed,
            prevalence=prevalence_of(parameters),
            side=self.side,
            names=self.names,
            kinds=parameters.kinds or LABELS,
        )


@dataclass(frozen=True)
class Reconstruction:
    """One volume of a session.

    Attributes:
        name: Volume name without suffix.
        grid: In true millimetres of the patient.
        kernel: How it looks.
        sharp: Whether it is the lung kernel.
        scanner: Row of `scanners.json`.
        noise_seed: Of its grain.
        truncated: Whether its file is cut off in the middle.
    """

    name: str
    grid: Grid
    kernel: Kernel
    sharp: bool
    scanner: dict[str, Any] = field(repr=False)
    noise_seed: tuple[int, ...]
    truncated: bool = False


@lru_cache(maxsize=1)
def scanners() -> list[dict[str, Any]]:
    """Read the scanners, with shares and rescale intercepts as in the published table."""
    text = resources.files("medvlp.phantom").joinpath("scanners.json").read_text(encoding="utf-8")
    return json.loads(text)


def plan_sessions(
    parameters: TwinParameters, hard_kinds: Sequence[str] = HARD_KINDS
) -> list[Session]:
    """List all sessions of a twin, the hard ones at the end of each split."""
    sessions: list[Session] = []
    for split, count in (("train", parameters.num_train), ("valid", parameters.num_test)):
        ordinary = list(_ordinary_sessions(split, count, parameters.seed))
        sessions += ordinary
        if parameters.hard_cases:
            first = ordinary[-1].patient + 1 if ordinary else 1
            sessions += _hard_sessions(split, first, parameters.seed, hard_kinds)
    return sessions


def _ordinary_sessions(split: str, count: int, seed: int) -> Iterator[Session]:
    patient = made = 0
    while made < count:
        patient += 1
        person = (seed, _SPLIT_NUMBER[split], patient)
        visits = 1 + int(np.random.default_rng(person).choice(3, p=_SESSION_SHARES))
        for visit in range(min(visits, count - made)):
            made += 1
            yield Session(split, patient, "abc"[visit], person, (*person, 1000 + visit))


def _hard_sessions(split: str, first: int, seed: int, kinds: Sequence[str]) -> list[Session]:
    """List the hard cases of a split: mirrored twins to test on, all others to prepare."""
    seeds = [(seed, _HARD_SEED, _SPLIT_NUMBER[split], number) for number in range(8)]
    sessions: list[Session] = []
    if split == "valid":
        for pair, names in enumerate(_TWIN_FINDINGS):
            for side in ("left", "right"):
                patient, own = first + len(sessions), seeds[pair]
                kind = f"mirrored twin {side}"
                sessions.append(
                    Session(split, patient, "a", own, (*own, 1), kind, names=names, side=side)
                )
        return sessions
    for number, kind in enumerate(kinds):
        names = frozenset[str]() if kind == "normal" else None
        own = seeds[number]
        sessions.append(Session(split, first + number, "a", own, (*own, 1), kind, names=names))
    return sessions


def plan_reconstructions(
    session: Session, study: PhantomStudy, shape: Size3D
) -> list[Reconstruction]:
    """List the volumes of a session: same anatomy, other kernel, slices and matrix."""
    rng = np.random.default_rng((*session.study_seed, 500))
    table = scanners()
    scanner = table[int(rng.choice(len(table), p=[row["weight"] for row in table]))]
    several = rng.random() < _SECOND_RECONSTRUCTION_SHARE
    count = 4 if session.hard_case == "several scans" else 1 + int(several)
    sharp = bool(rng.random() < 0.5)
    scale = study.thorax.scale
    width = 2 * (study.thorax.cavity_radii[1] + 21 + study.thorax.fat_mm) * scale[2]
    field_mm = width * rng.uniform(1.03, 1.10)
    height_mm = _HEIGHT_MM * scale[0] * rng.uniform(0.96, 1.04)
    center = (_MIDDLE_Z_MM * scale[0] + rng.uniform(-5, 5), *rng.uniform(-6, 6, 2).tolist())
    volumes = []
    for number in range(count):
        slices = shape[0] * rng.uniform(0.92, 1.08) * (1.0, 1.25, 0.75, 0.9)[number]
        matrix = rng.uniform(0.94, 1.06) * (1.0, 1.1, 0.9, 1.2)[number]
        if session.hard_case == "odd spacing":
            slices, matrix = slices * 0.4, matrix * 1.3
        size = (round(slices), round(shape[1] * matrix), round(shape[2] * matrix))
        in_plane = round(field_mm / size[2], 6)
        spacing = (round(height_mm / size[0], 6), in_plane, in_plane)
        volumes.append(
            Reconstruction(
                name=f"{session.name}_{number + 1}",
                grid=Grid(size, spacing, center),
                kernel=_kernel(sharp, rng),
                sharp=sharp,
                scanner=scanner,
                noise_seed=(*session.study_seed, 600 + number),
                truncated=session.hard_case == "corrupt file",
            )
        )
        sharp = not sharp
    return volumes


def _kernel(sharp: bool, rng: np.random.Generator) -> Kernel:
    if sharp:
        return Kernel(noise_hu=float(rng.uniform(20, 32)), blur=0.0)
    return Kernel(noise_hu=float(rng.uniform(9, 15)), blur=0.8)
