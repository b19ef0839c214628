"""What `medvlp.predict` does with a model of organs: one CT scan and its organ masks."""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from medvlp.data.anatomy_recipe import AnatomyRecipe
from medvlp.data.imported_masks import ImportedMasks
from medvlp.data.organ_masks import COMPANION, OrganMasks
from medvlp.data.read_scan import read_companion
from medvlp.data.records import ScanRecord
from medvlp.data.scan import Scan
from medvlp.data.totalsegmentator import MadeByTotalSegmentator
from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.evaluation.anatomy_zero_shot_task import AnatomyZeroShot
from medvlp.evaluation.prompt_evaluation import class_embeddings
from medvlp.models.fvlm import FVLM
from medvlp.prediction.loaded_model import LoadedModel
from medvlp.prediction.organ_heat import OrganStudy, organ_study
from medvlp.prediction.organ_maps import maps_to_draw, write_organ_maps
from medvlp.prediction.outcome import SCHEMA_VERSION, account
from medvlp.prediction.predict_study import MIN_SLICES, refuse_options_of_images, stated_by
from medvlp.prediction.predictor import evaluation_named, evaluations_of
from medvlp.prediction.series import Series, Wanted, choose, find_series
from medvlp.prediction.study import read_series

MAKE = "totalsegmentator"
"""Value of --masks that makes them."""


@dataclass(frozen=True)
class OrganScan:
    """A scan as a model of organs is given it.

    Attributes:
        series: Where it came from.
        study: Its whole volume and mask.
        notes: What the user should know of the masks.
    """

    series: Series
    study: OrganStudy
    notes: tuple[str, ...]


def predict_organs(options: argparse.Namespace, loaded: LoadedModel) -> None:
    """Read scan and masks, ask for every finding in its organ, write and print what comes out.

    Raises:
        FileNotFoundError, ValueError: If scan, masks or a finding cannot be used.
    """
    refuse_options_of_images(options)
    model, recipe = loaded.model, loaded.recipe
    assert isinstance(model, FVLM)
    if not isinstance(recipe, AnatomyRecipe):
        raise ValueError(
            f"{loaded.experiment} has a {type(recipe).__name__}, a model of organs needs a recipe "
            "with organ masks"
        )
    evaluation = _evaluation(options, loaded)
    scan = _read(options, recipe)
    windows = _windows(loaded.tree["system"])
    with torch.no_grad():
        embedding = embed_organs(
            model.embed_image,
            scan.study.image,
            scan.study.anatomy_mask,
            num_organs=len(model.organs),
            **windows,
        )
        tree = {
            "findings": _findings(evaluation, model, embedding, options.findings),
            "prompts": _similarities(options.prompt or (), loaded, model, embedding[0]),
        }
    tree["maps"] = []
    if options.map:
        asked, notes = maps_to_draw(tree, model.organs, named=bool(options.findings))
        tree["maps"] = write_organ_maps(options.out, scan.study, loaded, asked, **windows)
        scan = replace(scan, notes=(*scan.notes, *notes))
    _write(options.out, loaded, model, scan, embedding[0], tree)
    _print(Console(), model, scan, tree, options.out)


def _windows(system: Mapping[str, Any]) -> dict[str, Any]:
    """Take where organs are looked at from the checkpoint's system."""
    window = system["window"]
    return {
        "window": None if window is None else tuple(window),
        "multiple": tuple(system["multiple"]),
        "compat": system.get("compat"),  # checkpoints of before it have none
    }


def _evaluation(options: argparse.Namespace, loaded: LoadedModel) -> AnatomyZeroShot:
    evaluation = evaluation_named(evaluations_of(loaded), options.evaluation)
    if not isinstance(evaluation, AnatomyZeroShot):
        raise ValueError("the evaluation does not say in which organ a finding is looked for")
    unknown = sorted(set(options.findings or ()) - set(evaluation.class_names))
    if unknown:
        raise ValueError(
            f"no finding {', '.join(unknown)} in prompt set {evaluation.prompts.name}; it has "
            f"{', '.join(evaluation.class_names)}; other words can be asked of all organs: --prompt"
        )
    return evaluation


def _read(options: argparse.Namespace, recipe: AnatomyRecipe) -> OrganScan:
    if options.masks is None:
        raise ValueError(
            "a model of organs looks for each finding in its organ and needs their masks: --masks "
            f"FILE that TotalSegmentator wrote (task total), or --masks {MAKE} to run it"
        )
    least = MIN_SLICES if options.min_slices is None else options.min_slices
    stated = stated_by(options, "CT")
    wanted = Wanted("CT", least, derived=options.derived)
    marked = choose(find_series([Path(one) for one in options.scans]), wanted)
    used = [series for series in marked if not series.left_out]
    if len(used) != 1:
        listed = "; ".join(f"{one.label} {one.left_out or 'could be used'}" for one in marked)
        raise ValueError(f"a model of organs takes one scan with its masks, here are: {listed}")
    scan = read_series(used[0], stated)
    if reason := wanted.too_few(scan.array.shape[-3]):  # some formats tell only when they are read
        raise ValueError(f"{used[0].label}: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        mask, notes = _mask(options.masks, used[0], scan, Path(folder))
        try:
            prepared = recipe.prepare(replace(scan, companions={COMPANION: mask}))
        except ValueError as error:
            raise ValueError(f"{used[0].label} with {options.masks}: {error}") from error
    if lost := prepared.facts["anatomies_lost"]:
        notes += (f"too small to be seen at the model's voxels: {', '.join(lost)}",)

    def field(name: str, region: Any) -> np.ndarray:
        return prepared.arrays[name] if region is None else prepared.arrays[name][region]

    facts = {**prepared.facts, "shape": list(prepared.arrays["image"].shape)}
    inputs = recipe.inputs(field, facts)
    series = replace(used[0], modality="CT", num_slices=scan.array.shape[-3])
    return OrganScan(series, organ_study("scan", inputs, facts), notes)


def _mask(wanted: str, series: Series, scan: Scan, folder: Path) -> tuple[Scan, tuple[str, ...]]:
    path = Path(wanted)
    masks: OrganMasks
    if wanted == MAKE and not path.exists():
        masks = MadeByTotalSegmentator(device="gpu" if torch.cuda.is_available() else "cpu")
    elif path.exists():
        masks = ImportedMasks(str(path.parent), patterns=[path.name])
    else:
        raise FileNotFoundError(f"there are no organ masks at {path}")
    record = ScanRecord("scan", series.path, files=series.files)
    made = masks.make(record, folder / "mask.nii.gz")
    if made.path is None:
        raise ValueError(f"no organ masks: {'; '.join(made.notes)}")
    return read_companion(made.path, COMPANION, scan), tuple(made.notes)


def _findings(
    evaluation: AnatomyZeroShot, model: FVLM, embedding: Tensor, wanted: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Score the findings as the evaluation does; None where the scan does not show the organ."""
    evaluation.prepare(model.embed_text, model.logit_scale.detach(), embedding.device)
    one = {"sample_id": ["scan"], "patient_id": ["scan"], "recipe_hash": ""}
    evaluation.update(embedding, {**one, "image": embedding, "num_scans": torch.ones(1).long()})  # pyright: ignore[reportArgumentType]
    row = evaluation.rows()[0]
    found = []
    for name, score, absent in zip(
        evaluation.class_names, row["scores"], row["absent"], strict=True
    ):
        if wanted and name not in wanted:
            continue
        negative, positive = evaluation.prompts.texts(name, evaluation.template)
        facts = {"name": name, "organ": evaluation.organ_of[name]}
        facts |= {"score": None if absent else score, "kind": "probability"}
        found.append(facts | {"positive": positive, "negative": negative})
    return found


def _similarities(
    prompts: Sequence[str], loaded: LoadedModel, model: FVLM, embedding: Float[Tensor, "o e"]
) -> list[dict[str, Any]]:
    """Compare whole sentences with every organ."""
    if not prompts:
        return []
    texts = class_embeddings(
        [[prompt] for prompt in prompts], loaded.tokenizer, model.embed_text, embedding.device
    )
    rows = (texts @ embedding.T).tolist()
    found = []
    for prompt, row in zip(prompts, rows, strict=True):
        values = [value if np.isfinite(value) else None for value in row]
        similarity = dict(zip(model.organs, values, strict=True))
        found.append({"prompt": prompt, "similarity": similarity})
    return found


def _write(
    folder: Path,
    loaded: LoadedModel,
    model: FVLM,
    scan: OrganScan,
    embedding: Float[Tensor, "o e"],
    answers: dict[str, Any],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "organ_embedding.npy", embedding.numpy())
    counts = _voxels(model, scan)
    tree = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": dict(loaded.facts),
        "recipe_hash": loaded.recipe.hash,
        "recipe": loaded.recipe.describe(),
        "scans": [account(scan.series)],
        "organs": [{"name": name, "voxels": count} for name, count in counts.items()],
        **answers,
        "embedding": {"file": "organ_embedding.npy", "shape": list(embedding.shape)},
        "notes": list(scan.notes),
    }
    text = json.dumps(tree, indent=1, allow_nan=False) + "\n"
    (folder / "prediction.json").write_text(text, encoding="utf-8")


def _voxels(model: FVLM, scan: OrganScan) -> dict[str, int]:
    counts = torch.bincount(
        scan.study.anatomy_mask.flatten().long(), minlength=len(model.organs) + 1
    )[1:]
    return dict(zip(model.organs, counts.tolist(), strict=True))


def _print(
    console: Console, model: FVLM, scan: OrganScan, answers: dict[str, Any], folder: Path
) -> None:
    table = Table("organ", "finding", "probability", title="findings", title_justify="left")
    for one in answers["findings"]:
        shown = "not shown" if one["score"] is None else f"{one['score']:.3f}"
        table.add_row(one["organ"], one["name"], shown)
    console.print(table)
    for one in answers["prompts"]:
        values = {organ: value for organ, value in one["similarity"].items() if value is not None}
        shown = ", ".join(f"{organ} {value:.3f}" for organ, value in values.items())
        console.print(f"{one['prompt']} (similarity): {shown}", soft_wrap=True, markup=False)
    absent = [name for name, count in _voxels(model, scan).items() if not count]
    if absent:
        console.print(f"note: the scan does not show {', '.join(absent)}", soft_wrap=True)
    for note in scan.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print("research use only: these are scores of a model, not a diagnosis")
    console.print(f"everything lies in {folder}", soft_wrap=True)
