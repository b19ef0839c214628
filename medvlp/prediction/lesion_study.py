"""The lesions of one study: boxes or components of a mask, their answers, what is odd of them."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medvlp.data.lesion_channel import lesions_in_mask
from medvlp.data.lesion_geometry import box_iou
from medvlp.data.lesion_shapes import (
    BodyOutline,
    lesion_masks,
    lies_inside,
    mask_within,
    meets,
)
from medvlp.data.lesion_storage import stored_mask
from medvlp.data.lesion_table import BOX_COLUMNS, box_of, ranked_coarse
from medvlp.data.read_scan import read_scan
from medvlp.data.records import Lesion, ScanRecord
from medvlp.data.scan import Rescale, Scan
from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.prediction.lesion_localiser import LesionLocaliser

_LOG = logging.getLogger(__name__)
_OUTSIDE = "its box lies wholly outside the image; are x, y, z mm of the LPS world?"


class LocalisedLesion(NamedTuple):
    """A row of the list and what became of it.

    Attributes:
        cells: As they were read; of a mask, the box of a component and the cells of its row.
        answer: None if the lesion could not be looked at.
        remark: Why, or what is odd; empty if nothing is.
    """

    cells: dict[str, str]
    answer: PlaceAnswer | None
    remark: str = ""


class SeenLesion(NamedTuple):
    """A lesion with what it was seen in.

    Attributes:
        result: What is written of it.
        scan: With the mask that marks the lesion; None if it could not be looked at.
        lesion: Its box, and its value in the mask.
    """

    result: LocalisedLesion
    scan: Scan | None = None
    lesion: Lesion | None = None


class _Study(NamedTuple):
    """A study that was read.

    Attributes:
        scan: With its companions.
        rows: Of the list.
        sex: Of the patient, or empty.
    """

    scan: Scan
    rows: Sequence[dict[str, str]]
    sex: str


def localise_study(
    located: Mapping[str, Path],
    rows: Sequence[dict[str, str]],
    localiser: LesionLocaliser,
    *,
    mode: Literal["box", "mask"] = "box",
    coordinates: Literal["LPS", "RAS"] = "LPS",
    sex: str = "",
) -> Iterator[SeenLesion]:
    """Name the places of the lesions of a study, in the order of its rows.

    A study that cannot be read costs its lesions, which are returned with the reason.

    Args:
        located: File of each channel. Without a mask each box is filled with an ellipsoid.
        rows: In box mode one for each lesion; in mask mode the first stands for all components.
        localiser: Names them.
        mode: What the rows are.
        coordinates: Of the boxes' centres.
        sex: "F" or "M"; empty looks for Body_CT.json beside the image.
    """
    try:
        study = _Study(
            _read(located, _modality(localiser)), rows, sex or patient_sex(located["image"])
        )
        if mode == "mask":
            yield from _of_mask(study, localiser)
        else:
            yield from _of_boxes(study, localiser, coordinates)
    except (ValueError, OSError) as error:
        _LOG.warning("%d lesions of %s are left out: %s", len(rows), located["image"], error)
        yield from (SeenLesion(LocalisedLesion(row, None, str(error))) for row in rows)


def patient_sex(image: Path) -> str:
    """Read the sex of the patient from Body_CT.json beside the image; empty if none is known.

    A file that cannot be read is told of, and rules no place out.
    """
    path = image.parent / "Body_CT.json"
    if not path.is_file():
        return ""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        _LOG.warning("%s is not readable JSON; no place is ruled out by sex: %s", path, error)
        return ""
    sex = content.get("patient_sex") if isinstance(content, dict) else None
    return sex if sex in ("F", "M") else ""


def _read(located: Mapping[str, Path], modality: str) -> Scan:
    image = located["image"]
    companions = {field: path for field, path in located.items() if field != "image"}
    record = ScanRecord(str(image), image, modality, companions=companions)
    return read_scan(record, tuple(companions))


def _modality(localiser: LesionLocaliser) -> str:
    """Tell what the models look at: numbers without a unit are normalised by their own mean."""
    channels = next(iter(localiser.stages.values())).recipe.channels
    has_unit = next(one.mean is not None for one in channels if one.field == "image")
    return "CT" if has_unit else "MR"


def _of_boxes(
    study: _Study, localiser: LesionLocaliser, coordinates: Literal["LPS", "RAS"]
) -> list[SeenLesion]:
    """Name lesions by their boxes; a row that is no box is returned with the reason."""
    done: dict[int, SeenLesion] = {}
    lesions: dict[int, Lesion] = {}
    coarse: dict[int, dict[str, float]] = {}
    for number, row in enumerate(study.rows):
        try:
            x, y, z, width, height, depth = box_of(row)
            if coordinates == "RAS":
                x, y = -x, -y
            lesion = Lesion(str(number + 1), (x, y, z, width, height, depth))
            if _is_lost(study.scan, lesion, localiser):
                raise ValueError(_OUTSIDE)
            if "coarse" not in localiser.stages:
                coarse[number] = _coarse_of(row, localiser)
            lesions[number] = lesion
        except ValueError as error:
            done[number] = SeenLesion(LocalisedLesion(row, None, str(error)))
    remarks = _remarks(study.scan, lesions)
    for scan, numbers, marked in _marked(study.scan, lesions, localiser):
        answers = localiser.localise(
            scan, marked, sex=study.sex, coarse=[coarse[n] for n in numbers] if coarse else None
        )
        for number, lesion, answer in zip(numbers, marked, answers, strict=True):
            result = LocalisedLesion(study.rows[number], answer, remarks[number])
            done[number] = SeenLesion(result, scan, lesion)
    return [done[number] for number in range(len(study.rows))]


def _marked(
    scan: Scan, lesions: Mapping[int, Lesion], localiser: LesionLocaliser
) -> Iterator[tuple[Scan, list[int], list[Lesion]]]:
    """Give the lesions with a mask: the study's own, or as many as overlapping boxes need."""
    fields = next(iter(localiser.stages.values())).recipe.fields
    if "lesion_mask" not in fields or "lesion_mask" in scan.companions:
        yield scan, list(lesions), list(lesions.values())
        return
    numbers = list(lesions)
    for mask, chosen in lesion_masks(scan, [lesion.box_mm for lesion in lesions.values()]):
        marked = [replace(lesions[numbers[index]], label=label) for index, label in chosen.items()]
        beside = replace(scan, companions={**scan.companions, "lesion_mask": mask})
        yield beside, [numbers[index] for index in chosen], marked


def _of_mask(study: _Study, localiser: LesionLocaliser) -> list[SeenLesion]:
    """Name every component of a mask."""
    row, mask = dict(study.rows[0]), study.scan.companions.get("lesion_mask")
    if mask is None:
        raise ValueError("there is no lesion mask to take lesions of; give one, or boxes")
    found, array = lesions_in_mask(stored_mask(mask), mask.affine, compat=_compat(localiser))
    if not found:
        reason = f"{mask.provenance.get('path')} holds no lesion: all its voxels are 0"
        return [SeenLesion(LocalisedLesion(row, None, reason))]
    mask = replace(mask, array=array, rescale=Rescale())
    scan = replace(study.scan, companions={**study.scan.companions, "lesion_mask": mask})
    shown = [lesion for lesion in found if not _is_lost(scan, lesion, localiser)]
    answers = localiser.localise(scan, shown, sex=study.sex)
    named = {lesion.lesion_id: answer for lesion, answer in zip(shown, answers, strict=True)}
    remarks = _remarks(scan, dict(enumerate(found)))
    voxel = float(np.prod(mask.spacing_mm))
    seen: list[SeenLesion] = []
    for number, lesion in enumerate(found):
        box = {name: repr(v) for name, v in zip(BOX_COLUMNS, lesion.box_mm, strict=True)}
        answer = named.get(lesion.lesion_id)
        single = "a single voxel" if np.prod(lesion.box_mm[3:]) < 1.5 * voxel else ""
        odd = (single, remarks[number]) if answer is not None else (_OUTSIDE,)
        result = LocalisedLesion(
            {"class": "bbox", **row} | box, answer, "; ".join(filter(None, odd))
        )
        seen.append(SeenLesion(result, scan, lesion))
    return seen


def _is_lost(scan: Scan, lesion: Lesion, localiser: LesionLocaliser) -> bool:
    """Tell whether the image shows nothing of a lesion; published code names such places, too."""
    return _compat(localiser) is None and not meets(scan, lesion.box_mm)


def _compat(localiser: LesionLocaliser) -> Literal["published"] | None:
    return next(iter(localiser.stages.values())).recipe.compat


def _remarks(scan: Scan, lesions: Mapping[int, Lesion]) -> dict[int, str]:
    """Say what is odd of each lesion."""
    boxes = np.array([lesion.box_mm for lesion in lesions.values()], np.float64).reshape(-1, 6)
    mask, pet = (scan.companions.get(field) for field in ("lesion_mask", "pet"))
    body = BodyOutline(scan) if scan.modality == "CT" else None
    remarks: dict[int, str] = {}
    for index, (number, lesion) in enumerate(lesions.items()):
        odd: list[str] = []
        if not lies_inside(scan, lesion.box_mm[:3]):
            odd.append("its centre lies outside the image; LPS mm?")
        elif body is not None and not body.holds(lesion.box_mm[:3]):
            odd.append("its centre lies outside the body")
        if pet is not None and not lies_inside(pet, lesion.box_mm[:3]):
            odd.append("its centre lies outside the PET")
        if mask is not None and not mask_within(mask, lesion.box_mm).any():
            odd.append("the mask holds nothing in its box")
        overlap = box_iou(boxes, boxes[index]) > 0.5
        if others := [
            str(other + 1)
            for other, hit in zip(lesions, overlap, strict=True)
            if hit and other != number
        ]:
            odd.append(f"its box overlaps that of lesion {', '.join(others[:5])} by more than half")
        remarks[number] = "; ".join(odd)
    return remarks


def _coarse_of(row: Mapping[str, str], localiser: LesionLocaliser) -> dict[str, float]:
    ranked = ranked_coarse(row)
    for name in ranked:
        localiser.cascade.vocabulary.within(name)
    return ranked
