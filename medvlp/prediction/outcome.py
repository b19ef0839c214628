"""What is found in one study, and the files that say so. No file tells who the patient is."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.recipe import Recipe
from medvlp.evaluation.activation import activation_maps
from medvlp.evaluation.results import slug
from medvlp.phantom.nifti_file import write_nifti
from medvlp.prediction.pictures import overlay_picture, published_picture
from medvlp.prediction.predictor import Predictor
from medvlp.prediction.questions import Answers, Question
from medvlp.prediction.series import Series
from medvlp.prediction.study import StudyScan, slice_features, study_image
from medvlp.vision.activation import upsample

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """A study after it went through a model.

    Attributes:
        scans: That were used.
        accounts: Of every series, see `read_study`.
        questions: What was asked.
        answers: In the same order.
        embedding: Of the study; with a token axis for dual towers.
        notes: What the user should know, in sentences.
    """

    scans: list[StudyScan]
    accounts: list[Series]
    questions: list[Question]
    answers: Answers
    embedding: Float[Tensor, "*p e"]
    notes: list[str]


def embed_study(predictor: Predictor, scans: Sequence[StudyScan]) -> Float[Tensor, "*p e"]:
    """Embed the scans of one study."""
    slices = slice_features(scans)
    beside = () if slices is None else (slices,)  # a recipe makes them for networks that take them
    with torch.no_grad():
        return predictor.model.embed_image(study_image(scans), torch.tensor([len(scans)]), *beside)[
            0
        ]


def write_outcome(
    folder: Path, outcome: Outcome, predictor: Predictor, maps: Sequence[dict[str, Any]]
) -> Path:
    """Write `prediction.json` and `embedding.npy`; returns the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "embedding.npy", outcome.embedding.numpy())
    tree = {
        **origin(predictor.facts, predictor.recipe, outcome.scans, outcome.accounts),
        "findings": [
            {
                "name": question.name,
                "score": float(score),
                "kind": "similarity" if question.rule == "cosine" else "probability",
                "rule": question.rule,
                "positive": question.positive,
                "negative": question.negative,
                "source": question.source,
            }
            for question, score in zip(outcome.questions, outcome.answers.scores, strict=True)
        ],
        "embedding": {"file": "embedding.npy", "shape": list(outcome.embedding.shape)},
        "maps": list(maps),
        "notes": outcome.notes,
    }
    return write_tree(folder, tree)


def origin(
    facts: Mapping[str, Any],
    recipe: Recipe,
    scans: Sequence[StudyScan],
    accounts: Sequence[Series],
) -> dict[str, Any]:
    """State what a prediction was made from: checkpoint, recipe, scans."""
    return {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": dict(facts),
        "recipe_hash": recipe.hash,
        "recipe": recipe.describe(),
        "scans": [account(scan.series) for scan in scans],
        "left_out": [
            account(series) | {"reason": anonymous_reason(series)}
            for series in accounts
            if series.left_out
        ],
    }


def write_tree(folder: Path, tree: Mapping[str, Any]) -> Path:
    """Write `prediction.json`."""
    path = folder / "prediction.json"
    path.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def write_maps(
    folder: Path, outcome: Outcome, predictor: Predictor, asked: Sequence[int], *, token: int = 0
) -> list[dict[str, Any]]:
    """Write the activation maps of some questions: NIfTI on each scan's grid, and two pictures.

    Returns:
        For each question its files, and where the strongest token lies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = study_image(outcome.scans)
    texts = outcome.answers.positive[list(asked)]
    found = activation_maps(predictor.model, image, texts, token=token)
    depth, height, width = image.shape[2:]
    written = []
    for row, number in enumerate(asked):
        question = outcome.questions[number]
        name = f"activation_{slug(question.name)[:60]}"
        grid_map = found.maps[row]
        volumes = upsample(grid_map[None], (depth, height, width))[0].numpy()
        files = [
            _write_volume(folder / f"{name}_scan{index + 1}.nii.gz", scan, volume)
            for index, (scan, volume) in enumerate(zip(outcome.scans, volumes, strict=True))
        ]
        published_picture(folder / f"{name}_slices.png", outcome.scans, volumes, grid_map.shape[1])
        peak = _peak(outcome.scans, grid_map)
        scan = outcome.scans[peak["scan"] - 1]
        title = f"{question.name}: {_shown(outcome, number)}   (scan {peak['scan']})"
        overlay_picture(folder / f"{name}.png", scan, volumes[peak["scan"] - 1], title)
        written.append(
            {
                "finding": question.name,
                "method": found.method,
                "largest": float(grid_map.max()),
                "maximum": peak,
                "overlay": f"{name}.png",
                "slices": f"{name}_slices.png",
                "volumes": files,
            }
        )
    return written


def _shown(outcome: Outcome, number: int) -> str:
    kind = "similarity" if outcome.questions[number].rule == "cosine" else "probability"
    return f"{kind} {float(outcome.answers.scores[number]):.2f}"


def _write_volume(path: Path, scan: StudyScan, volume: np.ndarray) -> str:
    write_nifti(path, scan.grid.to_scan(volume), scan.affine)
    return path.name


def _peak(scans: Sequence[StudyScan], grid_map: Float[Tensor, "s d h w"]) -> dict[str, Any]:
    """Say where the strongest token lies: which scan, which voxel, and where in the world."""
    index, *place = np.unravel_index(int(grid_map.argmax()), tuple(grid_map.shape))
    scan = scans[int(index)]
    shape = [int(length) for length in grid_map.shape[1:]]
    voxel = scan.grid.to_scan_index([int(at) for at in place], shape)
    if voxel is None:  # the field of view is larger than the scan
        return {"scan": int(index) + 1, "voxel_ijk": None, "ras_mm": None}
    ijk = voxel[::-1]
    world = scan.affine @ np.array([*ijk, 1.0])
    return {
        "scan": int(index) + 1,
        "voxel_ijk": list(ijk),
        "ras_mm": [round(float(mm), 1) for mm in world[:3]],
    }


def account(series: Series) -> dict[str, Any]:
    """State what a file may tell of a series."""
    facts: dict[str, Any] = {"kind": series.kind, "modality": series.modality}
    if series.number:
        facts["series_number"] = series.number
    return facts | {"num_slices": series.num_slices}


def anonymous_reason(series: Series) -> str:
    """Repeat the reason without paths, which may hold a name."""
    reason = series.left_out
    for path in (*series.files, series.path):
        reason = reason.replace(str(path), "<path>")
    return re.sub(r"\S*[/\\]\S*", "<path>", reason)
