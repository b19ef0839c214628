"""Lists of lesions in, tables of their places out, as HCL-AL's inference reads and writes them."""

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.data.tables import read_table
from medvlp.evaluation.place_cascade import PlaceAnswer
from medvlp.prediction.lesion_localiser import LesionLocaliser
from medvlp.prediction.lesion_study import LocalisedLesion, SeenLesion, localise_study

_LOG = logging.getLogger(__name__)
_COARSE = ("coarse_labels", "coarse_probs")
_FINE = ("fine_to_coarse_labels", "fine_labels", "fine_probs", "pred")


def localise_list(
    table: Path,
    localiser: LesionLocaliser,
    *,
    mode: Literal["box", "mask"] = "box",
    images: Path | None = None,
) -> list[LocalisedLesion]:
    """Name the places of all lesions of a list, see `localise_rows`."""
    return [seen.result for seen in localise_rows(table, localiser, mode=mode, images=images)]


def localise_rows(
    table: Path,
    localiser: LesionLocaliser,
    *,
    mode: Literal["box", "mask"] = "box",
    images: Path | None = None,
    coordinates: Literal["LPS", "RAS"] = "LPS",
) -> Iterator[SeenLesion]:
    """Name the places of all lesions of a list, image by image.

    Images that cannot be read cost their lesions, which are returned with the reason.

    Args:
        table: CSV with image_path, image_path1, ... in the order of the channels. In box mode
            also x, y, z, width, height, depth, and coarse_labels and coarse_probs where there is
            no coarse stage; where the mask's cell is empty, the box is filled with an ellipsoid.
            In mask mode every component of the mask is a lesion.
        localiser: Names them.
        mode: What the rows are.
        images: Folder that relative paths start from; None takes the working folder.
        coordinates: Of the boxes' centres; published lists have LPS.

    Raises:
        FileNotFoundError, ValueError: If the list cannot be read.
    """
    recipe = next(iter(localiser.stages.values())).recipe
    rows = list_rows(table, recipe, mode=mode, ranked="coarse" not in localiser.stages)
    fields = fields_of(recipe)
    for paths, members in _by_image(rows, _path_columns(fields)).items():
        named = dict(zip(fields, paths, strict=True))
        if reason := _lacking(named, mode):
            yield from (SeenLesion(LocalisedLesion(row, None, reason)) for row in members)
            continue
        if mode == "mask" and len(members) > 1:
            what = f"rows of {named['lesion_mask']}: the first stands for all its lesions"
            _LOG.warning("%s has %d %s", table, len(members), what)
        located = {field: (images or Path()) / path for field, path in named.items() if path}
        yield from localise_study(located, members, localiser, mode=mode, coordinates=coordinates)


def _lacking(named: Mapping[str, str], mode: Literal["box", "mask"]) -> str:
    """Say which cells are empty; of boxes the mask's may be."""
    empty = [
        f"image_path{number or ''} ({field})"
        for number, (field, path) in enumerate(named.items())
        if not path and (mode == "mask" or field != "lesion_mask")
    ]
    return f"{' and '.join(empty)} is empty; write where the file lies" if empty else ""


def list_rows(
    table: Path, recipe: LesionRecipe, *, mode: Literal["box", "mask"], ranked: bool
) -> list[dict[str, str]]:
    """Read a list; no model is needed to tell that it cannot be used.

    Args:
        table: See `localise_rows`.
        recipe: Of the first stage.
        mode: What the rows are.
        ranked: Whether it has to tell the coarse places, as there is no coarse stage.

    Raises:
        FileNotFoundError, ValueError: If it cannot be read, or the mode needs what the models do
            not see.
    """
    fields = fields_of(recipe)
    boxes = BOX_COLUMNS if mode == "box" else ()
    rows = read_table(table, (*_path_columns(fields), *boxes, *(_COARSE if ranked else ())))
    if mode == "mask" and "lesion_mask" not in fields:
        raise ValueError(f"the model sees {', '.join(fields)}: there is no mask to take lesions of")
    return rows


def _path_columns(fields: Sequence[str]) -> list[str]:
    return [f"image_path{number or ''}" for number in range(len(fields))]


def _by_image(
    rows: Sequence[dict[str, str]], columns: Sequence[str]
) -> dict[tuple[str, ...], list[dict[str, str]]]:
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups


def fields_of(recipe: LesionRecipe) -> list[str]:
    """Name what the models see, in the order of their channels."""
    return [channel.field for channel in recipe.channels]


def files_of_study(files: Sequence[Path], recipe: LesionRecipe, *, boxes: bool) -> dict[str, Path]:
    """Tell the files of one study apart by their order.

    Args:
        files: In the order of the channels.
        recipe: Of the first stage.
        boxes: Whether boxes tell the lesions, so that there may be no mask.

    Raises:
        ValueError: If there are too few or too many.
    """
    fields = fields_of(recipe)
    least = [field for field in fields if field != "lesion_mask" or not boxes]
    if not len(least) <= len(files) <= len(fields):
        raise ValueError(
            f"{len(files)} files came; the models see {', '.join(fields)}: give a file for each of "
            "them in this order (the lesion mask may be left out where boxes or points tell the "
            "lesions)"
        )
    return dict(zip(fields if len(files) == len(fields) else least, files, strict=True))


def write_table(
    lesions: Sequence[LocalisedLesion], path: Path, *, fine: bool = True, remarks: bool = True
) -> Path:
    """Write HCL-AL's table: the columns of the list and those of the answers.

    Args:
        lesions: See `localise_list`.
        path: Of the CSV file.
        fine: Whether there was a fine stage; without it there is no column "pred".
        remarks: Add a column "remark" if there is any, which published tables have not.
    """
    own = dict.fromkeys(name for lesion in lesions for name in lesion.cells)
    names = [*own, *(name for name in (*_COARSE, *(_FINE if fine else ())) if name not in own)]
    remarked = remarks and any(lesion.remark for lesion in lesions)
    names += ["remark"] if remarked else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", extrasaction="ignore")
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
