"""What the head and brain twins share: parameters, names out of seeds, lattices, ground truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medvlp.phantom.head_canvas import FINDINGS, ORGANS, finding_id
from medvlp.phantom.head_nifti import write_scan
from medvlp.phantom.head_scan import Lattice, lattice, take_mask
from medvlp.phantom.head_study import EXTENT_MM, HeadStudy, PaintedHead
from medvlp.phantom.tables import write_json
from medvlp.phantom.twin import check_sizes, finish, paint_all, prepare_root
from medvlp.types import Size3D

STRIPPED_EXTENT_MM, STRIPPED_CENTER_MM = (158.0, 192.0, 156.0), (8.0, 0.0, 0.0)
"""What is covered along z, y, x where scalp and skull were taken away, and around what."""

HARD_SEED = 977
_SPLIT_NUMBER = {"train": 0, "val": 1, "test": 2}
_FINEST_MM, _COARSEST_MM = 1.5, 3.6
_AXIAL_SHARE = 0.84  # of the extent: neck and air above are left out

Item = TypeVar("Item")
Written = TypeVar("Written")


@dataclass(frozen=True)
class TwinParameters:
    """What decides every byte of a head twin.

    Attributes:
        num_train: Training studies, hard cases not counted.
        num_test: Held-out studies, hard cases not counted.
        seed: Of everything.
        shape: Typical voxels along z, y, x; thick slices are fewer.
        hard_cases: Whether the hard cases are written too.
    """

    num_train: int
    num_test: int
    seed: int
    shape: Size3D
    hard_cases: bool

    def as_json(self) -> dict[str, Any]:
        """Return the parameters as `twin.json` has them."""
        return {**asdict(self), "shape": list(self.shape)}

    @property
    def in_plane_mm(self) -> float:
        """Return the distance of voxels within an axial slice of the whole head."""
        return round(EXTENT_MM[1] / self.shape[1], 4)

    def slice_mm(self, wanted_mm: float) -> float:
        """Return a distance of slices: more than wanted if there would be too many slices."""
        return max(wanted_mm, round(_AXIAL_SHARE * EXTENT_MM[0] / self.shape[0], 4))

    @property
    def reference_mm(self) -> float:
        """Return the distance of voxels of the lattice on which heads are painted."""
        return float(np.clip(0.9 * self.in_plane_mm, _FINEST_MM, _COARSEST_MM))


def build_twin(
    root: str | Path,
    title: str,
    parameters: TwinParameters,
    *,
    version: int,
    plan: Callable[[TwinParameters], Sequence[Item]],
    write: Callable[[Path, TwinParameters, Item], Written],
    write_tables: Callable[[Path, list[Written]], Mapping[str, Any]],
    num_workers: int,
) -> Path:
    """Write a twin; a finished one is left as it is.

    Args:
        root: Where to.
        title: Name of the real data set.
        parameters: All that decides its content.
        version: Of what is written; count up whenever bytes change.
        plan: Lists the studies.
        write: Writes one; importable by name.
        write_tables: Writes what comes last, and returns facts for `twin.json`.
        num_workers: Processes; 0 writes in this one.

    Returns:
        `root`.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
    """
    root = Path(root)
    check_sizes(parameters.num_train, parameters.num_test, parameters.shape)
    stated: dict[str, Any] = {"version": version, "parameters": parameters.as_json()}
    if not prepare_root(root, title, **stated):
        items = plan(parameters)
        function = partial(write, root, parameters)
        written = paint_all(function, items, num_workers, f"Painting {title} twin")
        finish(root, title, **stated, facts=write_tables(root, written))
    return root


def seed_of(parameters: TwinParameters, split: str, number: int) -> tuple[int, ...]:
    """Return the seed of a study: the same whatever the number of studies."""
    return (parameters.seed, _SPLIT_NUMBER[split], number)


def digits(rng: np.random.Generator, count: int, alphabet: str = "0123456789") -> str:
    """Draw a name."""
    return "".join(alphabet[int(i)] for i in rng.integers(len(alphabet), size=count))


def isotropic_lattice(
    spacing_mm: float, *, stripped: bool, flip: Sequence[bool] = (False, False, False)
) -> Lattice:
    """Cover a head with cubes."""
    extent = STRIPPED_EXTENT_MM if stripped else EXTENT_MM
    center = STRIPPED_CENTER_MM if stripped else (0.0, 0.0, 0.0)
    return lattice("axial", extent, (spacing_mm,) * 3, center_mm=center, flip=flip)


def thick_lattice(
    plane: str,
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
    *,
    tilt_deg: float = 0.0,
    gantry_deg: float = 0.0,
    flip: Sequence[bool] = (False, False, False),
) -> Lattice:
    """Cover a head with few thick slices, off centre by some millimetres."""
    high, deep, wide = EXTENT_MM
    extent = {
        "axial": (_AXIAL_SHARE * high, deep, wide),
        "coronal": (0.86 * deep, high, wide),
        "sagittal": (0.86 * wide, high, deep),
    }[plane]
    offset = rng.uniform(-4, 4, 3) + np.asarray([6.0 if plane == "axial" else 0.0, 0.0, 0.0])
    return lattice(
        plane,
        extent,
        spacing_mm,
        tilt_deg=tilt_deg,
        gantry_deg=gantry_deg,
        center_mm=offset.tolist(),
        flip=flip,
    )


def write_truth(root: Path, name: str, painted: PaintedHead, where: Lattice) -> None:
    """Write the masks of organs and findings on the lattice of a scan."""
    for which in ("organs", "findings"):
        mask = take_mask(painted, which, where)
        write_scan(root / "ground_truth" / which / f"{name}.nii.gz", mask, where)


def truth_of(study: HeadStudy) -> dict[str, Any]:
    """State what is true of a study; places in RAS millimetres, as the affines have them."""
    scale = np.asarray(study.head.scale)
    findings = []
    for lesion in study.lesions:
        parts = (lesion.points * scale)[:, ::-1] * np.asarray([-1.0, -1.0, 1.0])
        findings.append(
            {
                "kind": lesion.kind,
                "id": finding_id(lesion.kind),
                "side": lesion.side,
                "place": lesion.place,
                "size_mm": round(lesion.size_mm, 1),
                "center_ras_mm": np.round(parts.mean(0), 1).tolist(),
                "old": lesion.old,
            }
        )
    return {
        "sex": study.head.sex,
        "age": study.head.age,
        # positive x of RAS is the patient's right
        "midline_shift_ras_mm": round(-study.head.shift_mm, 1),
        "large_ventricles": study.large_ventricles,
        "findings": findings,
    }


def write_truth_tables(root: Path, truth: Mapping[str, Any]) -> None:
    """Write `ground_truth/labels.json` and `ground_truth/studies.json`."""
    ids = {
        "organs": dict(enumerate(ORGANS)),
        "findings": {finding_id(kind): kind for kind in FINDINGS},
    }
    write_json(root / "ground_truth" / "labels.json", ids)
    write_json(root / "ground_truth" / "studies.json", dict(truth))
