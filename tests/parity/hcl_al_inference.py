"""HCL-AL: from lists of lesions to tables of places, with published checkpoints."""

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.hcl_al_container import stored_recipe
from medvlp.checkpoints.systems import load_weights
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.evaluation.place_cascade import PlaceCascade
from medvlp.prediction.lesion_list import localise_list, write_table
from medvlp.prediction.lesion_localiser import LesionLocaliser, LesionStage
from medvlp.text.clip_tokenizer import ClipTokenizer

from .hcl_al_models import IMAGE_TYPES, build_model, build_text, build_vision
from .registry import Case, handles

PROBABILITY_TOLERANCE, BOX_TOLERANCE = 2e-4, 1e-3  # of its README
SMALLEST = 1e-30  # whether a probability below is 0 depends on rounding
TIED = 1e-4  # relative; neighbours as close as this may swap
_LISTS = {
    "coarse_probs": ("coarse_labels",),
    "fine_probs": ("fine_to_coarse_labels", "fine_labels"),
}
_LISTED = {name for item in _LISTS.items() for name in (item[0], *item[1])}


@handles("hcl_al", "inference_coarse_to_fine")
def inference_coarse_to_fine(case: Case) -> None:
    config, folder = case.config, case.path
    vocabulary = PlaceVocabulary.read(folder / "vocabulary.json", folder / "descriptions.json")
    stages = {"coarse": _stage(case, "coarse"), "fine": _stage(case, "fine")}
    for run in config["runs"]:
        cascade = PlaceCascade(
            vocabulary,
            run["coarse_topk"],
            fusion_threshold=float(run["fuse_coarse_thres"]),
            filter_by_sex=config["filter_by_gender"],
            filter_by_size=config["filter_by_size"],
            compat="published",
        )
        fine = stages["fine"] if run["fine_run"] else None
        localiser = LesionLocaliser(cascade, coarse=stages["coarse"], fine=fine)
        table = folder / ("bbox.csv" if run["mode"] == "box" else "mask.csv")
        found = localise_list(
            table, localiser, mode=run["mode"], images=folder / config["images_in"]
        )
        with tempfile.TemporaryDirectory() as out:
            path = write_table(found, Path(out) / "pred.csv", fine=run["fine_run"], remarks=False)
            _compare(run["expected"], _rows(path), _rows(folder / run["expected"]))


def _stage(case: Case, name: Literal["coarse", "fine"]) -> LesionStage:
    """Build a stage from its checkpoint, and the widths that this does not tell."""
    file = open_weights(case.path / name / "params.pth")
    sizes, kind = case.config[name], file.beside["net"]
    image = {"type": next(one for part, one in IMAGE_TYPES.items() if part in kind)}
    image |= {key.removeprefix("image_"): size for key, size in sizes.items()}
    vision = build_vision(image, file.beside["crop_size"], file.beside["input_channel"])
    text, width = build_text(case.config["text"]), sizes["num_features"]
    text_fc = nn.Linear(text.width, width) if "_Fc_" in kind else None
    model = build_model(vision, text, width, text_fc=text_fc)
    assert load_weights(model, file.tensors).complete
    recipe = stored_recipe(file.beside, name)
    tokenizer = ClipTokenizer(context_length=case.config["text"]["context_length"])
    return LesionStage(model, recipe, tokenizer)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _compare(what: str, found: Sequence[dict[str, str]], golden: Sequence[dict[str, str]]) -> None:
    assert list(found[0]) == list(golden[0]), f"{what}: columns"
    assert len(found) == len(golden), f"{what}: rows"
    for number, (ours, theirs) in enumerate(zip(found, golden, strict=True)):
        where = f"{what}, row {number}"
        for name, cell in theirs.items():
            if name in BOX_COLUMNS:
                assert abs(float(ours[name]) - float(cell)) <= BOX_TOLERANCE, f"{where}: {name}"
            elif name not in _LISTED:
                assert ours[name] == cell, f"{where}: {name}"
        for probabilities, labels in _LISTS.items():
            if probabilities in theirs:
                _compare_list(where, (probabilities, *labels), ours, theirs)


def _compare_list(
    where: str, columns: Sequence[str], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> None:
    """Compare ranked labels and probabilities; labels of nearly equal ones may swap."""
    lists = [
        list(zip(*(row[name].split(",") for name in columns), strict=True))
        for row in (ours, theirs)
    ]
    got, wanted = ([row for row in rows if float(row[0]) >= SMALLEST] for rows in lists)
    assert len(got) == len(wanted), f"{where}: {columns[0]}"
    for place, (mine, golden) in enumerate(zip(got, wanted, strict=True)):
        value = float(golden[0])
        assert abs(float(mine[0]) - value) <= PROBABILITY_TOLERANCE, f"{where}: {columns[0]}"
        near = wanted[max(place - 1, 0) : place + 2]
        allowed = [row[1:] for row in near if abs(float(row[0]) - value) <= TIED * value]
        assert mine[1:] in allowed, f"{where}: {mine[1:]} at {place}, expected {golden[1:]}"
