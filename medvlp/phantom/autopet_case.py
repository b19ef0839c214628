"""Write one case of an AutoPET twin: CT, PET, masks, and its rows of the tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from medvlp.data.lesion_geometry import Placement, boxes_mm, foreground_box
from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.phantom.autopet_plan import PlannedCase, PlannedLesion
from medvlp.phantom.grid import Grid
from medvlp.phantom.nifti_file import write_nifti
from medvlp.phantom.shapes import ellipsoid
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.whole_body import BOTTOM_MM, TOP_MM, blend, paint

_FIELD_MM = 470.0  # of the CT, in the plane
_PET_FIELD_MM = 560.0
_PET_COARSER = 1.5
_PET_OFFSET_MM = (3.1, -4.7, 5.3)
_LESION_HU = {"soft": 72.0, "lung": 35.0, "bone": 120.0}


@dataclass(frozen=True)
class WrittenCase:
    """What a case adds to the tables.

    Attributes:
        case: Which.
        boxes: Rows of bbox.csv.
        places: Rows of anno.csv.
        truth: What is true of its lesions, for `ground_truth/cases.json`.
    """

    case: PlannedCase
    boxes: list[dict[str, str]]
    places: list[dict[str, str]]
    truth: dict[str, Any]


def write_case(root: Path, parameters: TwinParameters, case: PlannedCase) -> WrittenCase:
    """Write the files that are not there yet; say what belongs into the tables."""
    ct, pet = _grids(parameters, case)
    mask_grid = ct if case.hard_case == "flipped mask" else pet
    numbers = _paint_mask(mask_grid, case.lesions)
    folder = root / "FDG-PET-CT-Lesions" / case.case_id
    if not (folder / "CT.nii.gz").exists():
        _write_files(root, case, ct=ct, pet=pet, numbers=numbers)
    boxes = _boxes(numbers, mask_grid)
    files = (
        f"data/FDG-PET-CT-Lesions/{case.case_id}/CT.nii.gz",
        f"data/FDG-PET-CT-Lesions/{case.case_id}/SUV.nii.gz",
        f"data/lesion_mask/{case.case_id}/SEG_MultiLabel.nii.gz",
    )
    rows = [
        {name: f"{value:.3f}" for name, value in zip(BOX_COLUMNS, box, strict=True)}
        for box in boxes
    ]
    paths = {"image_path": files[0], "image_path1": files[1], "image_path2": files[2]}
    return WrittenCase(
        case,
        [{**paths, **row} for row in rows],
        [
            {"image_path": files[0], **row, "GT": ",".join(lesion.names)}
            for row, lesion in zip(rows, case.lesions, strict=True)
        ],
        _truth(case, boxes),
    )


def _grids(parameters: TwinParameters, case: PlannedCase) -> tuple[Grid, Grid]:
    """Make the lattices of CT and PET; every case differs a little."""
    rng = np.random.default_rng((*case.seed, 5))
    depth, height, width = (int(n + rng.integers(-1, 2)) for n in parameters.shape)
    top, bottom = (end * case.body.scale[0] for end in (TOP_MM, BOTTOM_MM))
    middle = ((top + bottom) / 2, 4.0, 0.0)
    step = ((top - bottom) / depth, _FIELD_MM / height, _FIELD_MM / width)
    ct = Grid((depth, height, width), step, middle)
    rows, columns = (max(round(n / _PET_COARSER), 8) for n in (height, width))
    slices = max(round(depth / 1.2), 8)
    pet_step = ((top - bottom) / slices, _PET_FIELD_MM / rows, _PET_FIELD_MM / columns)
    z, y, x = (a + b for a, b in zip(middle, _PET_OFFSET_MM, strict=True))
    return ct, Grid((slices, rows, columns), pet_step, (z, y, x))


def _paint_mask(grid: Grid, lesions: tuple[PlannedLesion, ...]) -> UInt8[np.ndarray, "d h w"]:
    """Number lesions from 1; each gets the voxel at its centre at least."""
    numbers = np.zeros(grid.shape, dtype=np.uint8)
    for number, lesion in enumerate(lesions, start=1):
        patch = ellipsoid(grid, lesion.center, lesion.radii_mm)
        view = numbers[patch.box]
        view[(patch.alpha > 0.5) & (view == 0)] = number
        middle = (np.asarray(lesion.center) - grid.origin_mm) / grid.spacing_mm
        z, y, x = np.clip(np.rint(middle), 0, np.asarray(grid.shape) - 1).astype(int)
        numbers[z, y, x] = number
    return numbers


def _write_files(
    root: Path, case: PlannedCase, *, ct: Grid, pet: Grid, numbers: UInt8[np.ndarray, "d h w"]
) -> None:
    folder, masks = (root / name / case.case_id for name in ("FDG-PET-CT-Lesions", "lesion_mask"))
    truth = root / "ground_truth" / "organs" / f"{case.case_id.replace('/', '_')}.nii.gz"
    for parent in (folder, masks, truth.parent):
        parent.mkdir(parents=True, exist_ok=True)
    flipped = case.hard_case == "flipped mask"
    affine = (ct if flipped else pet).affine()
    if flipped:  # x to the right and z downwards, as the affine says
        numbers = np.ascontiguousarray(numbers[::-1, :, ::-1])
        affine = affine @ _flip((numbers.shape[2], 1, numbers.shape[0]))
    write_nifti(masks / "SEG_MultiLabel.nii.gz", numbers, affine)
    write_nifti(folder / "SEG.nii.gz", (numbers > 0).astype(np.uint8), affine)
    rng = np.random.default_rng((*case.seed, 6))
    suv, _ = paint(case.body, pet, "suv")
    hu, organs = paint(case.body, ct, "hu")
    for lesion in case.lesions:
        blend(suv, ellipsoid(pet, lesion.center, lesion.radii_mm), lesion.suv)
        blend(hu, ellipsoid(ct, lesion.center, lesion.radii_mm), _LESION_HU[lesion.tissue])
    suv *= 1 + np.float32(0.08) * rng.standard_normal(suv.shape, dtype=np.float32)
    hu += np.float32(18) * rng.standard_normal(hu.shape, dtype=np.float32)
    share = 0.6 if case.hard_case == "corrupt SUV" else 1.0
    write_nifti(folder / "SUV.nii.gz", np.maximum(suv, 0), pet.affine(), share=share)
    write_nifti(truth, organs, ct.affine())
    # last: its presence means that all files of the case are there
    whole = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    write_nifti(folder / "CT.nii.gz", whole, ct.affine())


def _flip(lengths: tuple[int, int, int]) -> Float[np.ndarray, "4 4"]:
    """Map the index of a volume flipped along its long axes (x, y, z) to that before."""
    flip = np.eye(4)
    for axis, length in enumerate(lengths):
        if length > 1:
            flip[axis, axis], flip[axis, 3] = -1.0, length - 1.0
    return flip


def _boxes(numbers: UInt8[np.ndarray, "d h w"], grid: Grid) -> list[list[float]]:
    """Measure the box of each lesion, in millimetres of the LPS world."""
    found = [foreground_box(numbers == number) for number in range(1, int(numbers.max()) + 1)]
    z, y, x = grid.origin_mm
    placement = Placement(
        np.array([x, y, z]), np.array(grid.spacing_mm[::-1], dtype=np.float64), np.eye(3)
    )
    return boxes_mm([box for box in found if box is not None], placement).tolist()


def _truth(case: PlannedCase, boxes: list[list[float]]) -> dict[str, Any]:
    return {
        "split": case.split,
        "sex": case.body.sex,
        "age": case.body.age,
        "hard_case": case.hard_case,
        "lesions": [
            {
                "label": number,
                "places": list(lesion.names),
                "center_lps_mm": [round(value, 2) for value in reversed(lesion.center)],
                "radii_lps_mm": [round(value, 2) for value in reversed(lesion.radii_mm)],
                "suv": round(lesion.suv, 2),
                "box_mm": [round(value, 3) for value in box],
            }
            for number, (lesion, box) in enumerate(zip(case.lesions, boxes, strict=True), start=1)
        ],
    }
