"""A phantom study: who it is, what was found, and its volumes on any lattice."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16, UInt8

from medvlp.phantom.canvas import Canvas
from medvlp.phantom.finding import LABELS, Finding
from medvlp.phantom.findings import KINDS, reshape_heart, sample_finding
from medvlp.phantom.grid import Grid
from medvlp.phantom.organs import paint_thorax
from medvlp.phantom.texture import add_kernel
from medvlp.phantom.thorax import Thorax, sample_thorax

NORMAL_SHARE = 0.08
"""Share of the studies in which nothing at all is found."""


@dataclass(frozen=True)
class PhantomStudy:
    """A person on one day.

    Attributes:
        thorax: The anatomy, heart as its findings make it.
        findings: What was found, in the order of painting.
        kinds: What was looked for, so that its absence is worth a word.
    """

    thorax: Thorax
    findings: tuple[Finding, ...]
    kinds: tuple[str, ...] = LABELS

    def size_mm(self, finding: Finding) -> float:
        """Return the extent of a finding in this person rather than in the standard body."""
        return finding.size_mm * float(np.prod(self.thorax.scale)) ** (1 / 3)

    @property
    def names(self) -> frozenset[str]:
        """Return the labels that are present."""
        return frozenset(finding.name for finding in self.findings)


@dataclass(frozen=True)
class Kernel:
    """How a reconstruction looks: see `texture.add_kernel`."""

    noise_hu: float
    blur: float


@dataclass(frozen=True)
class PaintedVolume:
    """One reconstruction of a study with its ground truth.

    Attributes:
        hu: Hounsfield units.
        organs: Ids of `canvas.ORGANS`.
        findings: 0, or the id of a finding.
    """

    hu: Float[np.ndarray, "d h w"]
    organs: UInt8[np.ndarray, "d h w"]
    findings: UInt8[np.ndarray, "d h w"]

    def int16(self, low_hu: int = -1024, high_hu: int = 3071) -> Int16[np.ndarray, "d h w"]:
        """Return Hounsfield units as files store them, within the range of a scanner."""
        return np.rint(np.clip(self.hu, low_hu, high_hu)).astype(np.int16)


def sample_study(
    person_seed: tuple[int, ...],
    study_seed: tuple[int, ...],
    *,
    prevalence: float = 0.3,
    side: str | None = None,
    names: frozenset[str] | None = None,
    kinds: tuple[str, ...] = LABELS,
) -> PhantomStudy:
    """Draw a study.

    Args:
        person_seed: Decides the anatomy.
        study_seed: Decides the findings.
        prevalence: Share of the studies with each finding.
        side: Put every finding that has a side on this one, all else equal.
        names: Exactly these findings, instead of a draw.
        kinds: What there can be; a draw of the others is void.
    """
    thorax = sample_thorax(np.random.default_rng((*person_seed, 0)))
    rng = np.random.default_rng((*study_seed, 1))
    healthy = rng.random() < NORMAL_SHARE
    drawn = rng.random(len(KINDS)) < min(1.0, prevalence / (1 - NORMAL_SHARE))
    findings: list[Finding] = []
    for index, kind in enumerate(KINDS):
        present = drawn[index] and not healthy if names is None else kind.name in names
        if not present or kind.name not in kinds:
            continue
        seed = (*study_seed, 2 + index)
        findings.append(sample_finding(kind, thorax, seed, side=side))
        thorax = reshape_heart(thorax, tuple(findings[-1:]))
    return PhantomStudy(thorax, tuple(findings), kinds)


def paint_study(
    study: PhantomStudy, grid: Grid, kernel: Kernel, noise_seed: tuple[int, ...]
) -> PaintedVolume:
    """Paint a study on a lattice as one reconstruction kernel shows it."""
    canvas = Canvas(grid.scaled(study.thorax.scale))
    paint_thorax(canvas, study.thorax)
    by_name = {kind.name: kind for kind in KINDS}
    for finding in study.findings:
        by_name[finding.name].paint(canvas, study.thorax, finding)
    rng = np.random.default_rng(noise_seed)
    add_kernel(canvas.hu, rng, noise_hu=kernel.noise_hu, blur=kernel.blur)
    return PaintedVolume(canvas.hu, canvas.organs, canvas.findings)
