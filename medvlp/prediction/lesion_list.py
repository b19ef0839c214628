"""Lists of lesions in, tables of their places out, as HCL-AL's inference reads and writes them."""

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from medvlp.data.autopet_cases import lies_inside
from medvlp.data.lesion_channel import lesions_in_mask
from medvlp.data.lesion_table import BOX_COLUMNS, BoxMm, box_of, names_of
from medvlp.data.read_scan import read_scan
from medvlp.data.records import Lesion, ScanRecord
from medvlp.data.scan import Scan
from medvlp.data.tables import read_table
from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.prediction.lesion_localiser import LesionLocaliser

_LOG = logging.getLogger(__name__)
_COARSE = ("coarse_labels", "coarse_probs")
_FINE = ("fine_to_coarse_labels", "fine_labels", "fine_probs", "pred")


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


def localise_list(
    table: Path,
    localiser: LesionLocaliser,
    *,
    mode: Literal["box", "mask"] = "box",
    images: Path | None = None,
) -> list[LocalisedLesion]:
    """Name the places of all lesions of a list, image by image.

    Images that cannot be read cost their lesions, which are returned with the reason.

    Args:
        table: CSV with image_path, image_path1, ... in the order of the channels. In box mode
            also x, y, z, width, height, depth, and coarse_labels and coarse_probs where there is
            no coarse stage. In mask mode every component of the mask is a lesion.
        localiser: Names them.
        mode: What the rows are.
        images: Folder that relative paths start from; None takes the working folder.

    Raises:
        FileNotFoundError, ValueError: If the list cannot be read.
    """
    recipe = next(iter(localiser.stages.values())).recipe
    fields = [channel.field for channel in recipe.channels]
    columns = [f"image_path{number or ''}" for number in range(len(fields))]
    boxes = BOX_COLUMNS if mode == "box" else ()
    given = () if "coarse" in localiser.stages else _COARSE
    rows = read_table(table, (*columns, *boxes, *given))
    if mode == "mask" and "lesion_mask" not in fields:
        raise ValueError(f"the model sees {', '.join(fields)}: there is no mask to take lesions of")
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    done: list[LocalisedLesion] = []
    for paths, members in groups.items():
        located = {
            field: (images or Path()) / path for field, path in zip(fields, paths, strict=True)
        }
        try:
            scan = _read(located)
            if mode == "mask":
                done += _of_mask(scan, members[0], localiser, located["image"])
            else:
                done += _of_boxes(scan, members, localiser, located["image"])
        except (ValueError, OSError) as error:
            _LOG.warning("%d lesions of %s are left out: %s", len(members), paths[0], error)
            done += [LocalisedLesion(row, None, str(error)) for row in members]
    return done


def write_table(lesions: Sequence[LocalisedLesion], path: Path, *, fine: bool = True) -> Path:
    """Write HCL-AL's table: the columns of the list and those of the answers.

    Args:
        lesions: See `localise_list`.
        path: Of the CSV file.
        fine: Whether there was a fine stage; without it there is no column "pred".
    """
    own = dict.fromkeys(name for lesion in lesions for name in lesion.cells)
    names = [*own, *(name for name in (*_COARSE, *(_FINE if fine else ())) if name not in own)]
    remarks = ("remark",) if any(lesion.remark for lesion in lesions) else ()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names, *remarks], restval="", extrasaction="ignore")
        writer.writeheader()
        for lesion in lesions:
            cells = {} if lesion.answer is None else answer_cells(lesion.answer)
            writer.writerow(lesion.cells | cells | {"remark": lesion.remark})
    return path


def write_json(lesions: Sequence[LocalisedLesion], path: Path, localiser: LesionLocaliser) -> Path:
    """Write ranked names with their probabilities and their paths in the hierarchy."""
    vocabulary = localiser.cascade.vocabulary
    paths = {place.coarse: [place.body, place.coarse] for place in vocabulary.places}
    paths |= {place.name: [*place[:3]] for place in vocabulary.places}
    listed: list[dict[str, Any]] = []
    for lesion in lesions:
        entry: dict[str, Any] = {"lesion": lesion.cells, "remark": lesion.remark}
        if (answer := lesion.answer) is not None:
            entry["places"] = [
                {"name": name, "probability": value, "path": paths[name]}
                for name, value in zip(answer.names, answer.probabilities, strict=True)
            ]
            entry["coarse"] = dict(zip(answer.coarse, answer.coarse_probabilities, strict=True))
        listed.append(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def answer_cells(answer: PlaceAnswer) -> dict[str, str]:
    """Write an answer as the cells of HCL-AL's table."""
    lists: dict[str, Iterable[str]] = {
        "coarse_labels": answer.coarse,
        "coarse_probs": map(repr, answer.coarse_probabilities),
        "fine_to_coarse_labels": answer.fine_coarse,
        "fine_labels": answer.fine,
        "fine_probs": map(repr, answer.fine_probabilities),
    }
    return {name: ",".join(items) for name, items in lists.items()} | {"pred": answer.names[0]}


def patient_sex(image: Path) -> str:
    """Read the sex of the patient from Body_CT.json beside the image; empty if it is not there."""
    path = image.parent / "Body_CT.json"
    if not path.is_file():
        return ""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    sex = content.get("patient_sex") if isinstance(content, dict) else None
    return sex if sex in ("F", "M") else ""


def _read(located: Mapping[str, Path]) -> Scan:
    companions = {field: path for field, path in located.items() if field != "image"}
    record = ScanRecord(str(located["image"]), located["image"], companions=companions)
    return read_scan(record, tuple(companions))


def _of_boxes(
    scan: Scan, rows: Sequence[dict[str, str]], localiser: LesionLocaliser, image: Path
) -> list[LocalisedLesion]:
    """Name lesions by their boxes; a row that is no box is returned with the reason."""
    done: dict[int, LocalisedLesion] = {}
    lesions: dict[int, Lesion] = {}
    coarse: list[dict[str, float]] = []
    given = "coarse" not in localiser.stages
    for number, row in enumerate(rows):
        try:
            lesion = Lesion(str(number), box_of(row))
            if given:
                coarse.append(_coarse_of(row))
        except ValueError as error:
            done[number] = LocalisedLesion(row, None, str(error))
        else:
            lesions[number] = lesion
    sex = patient_sex(image)
    answers = localiser.localise(
        scan, list(lesions.values()), sex=sex, coarse=coarse if given else None
    )
    for (number, lesion), answer in zip(lesions.items(), answers, strict=True):
        done[number] = LocalisedLesion(rows[number], answer, _oddity(image, lesion.box_mm))
    return [done[number] for number in range(len(rows))]


def _of_mask(
    scan: Scan, row: Mapping[str, str], localiser: LesionLocaliser, image: Path
) -> list[LocalisedLesion]:
    """Name every component of a mask."""
    mask = scan.companions["lesion_mask"]
    compat = next(iter(localiser.stages.values())).recipe.compat
    lesions = lesions_in_mask(mask.array, mask.affine, compat=compat)
    if not lesions:
        return [LocalisedLesion(dict(row), None, "the mask holds no lesion")]
    answers = localiser.localise(scan, lesions, sex=patient_sex(image))
    return [
        LocalisedLesion(
            {"class": "bbox", **row}
            | {name: repr(value) for name, value in zip(BOX_COLUMNS, lesion.box_mm, strict=True)},
            answer,
        )
        for lesion, answer in zip(lesions, answers, strict=True)
    ]


def _coarse_of(row: Mapping[str, str]) -> dict[str, float]:
    names, values = names_of(row["coarse_labels"]), row["coarse_probs"].split(",")
    try:
        return dict(zip(names, map(float, values), strict=True))
    except ValueError as error:
        raise ValueError(
            f"coarse_labels and coarse_probs are {names} and {values}: expected as many numbers as "
            "names"
        ) from error


def _oddity(image: Path, box: BoxMm) -> str:
    return "" if lies_inside(image, box[:3]) else "its centre lies outside the image; LPS mm?"
