"""Carry the weights of a model of organs over to one that knows other organs as well."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from medvlp.checkpoints.adapter import StateDict
from medvlp.checkpoints.conversion import require_target, write_weights
from medvlp.checkpoints.files import WeightFile
from medvlp.checkpoints.fingerprint import weights_hash
from medvlp.checkpoints.inspection import carried_model
from medvlp.checkpoints.model_configs import build_model
from medvlp.checkpoints.systems import check_weights, differences
from medvlp.checkpoints.verification import misfit
from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.models.fvlm import FVLM

_POOLING = "pooling."
_QUERY = "query"


def extend_file(
    file: WeightFile,
    target: Path,
    tree: Mapping[str, Any],
    *,
    organs: Sequence[str] | None = None,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Write the weights of a file for a model of more organs, or of other ones, or reordered.

    What organs share is copied. An organ that both know, by name, keeps its embedding of an image
    and mask bit for bit. A new one gets a query of zeros, as published, and a random projection.

    Args:
        file: In any layout.
        target: Of the weights under our names, in the format of its suffix.
        tree: Config of the model with the organs that are wanted.
        organs: Those of the file, in the order of its rows; None where it names them.
        seed: Of the new organs' projections.
        force: Replace a file that is there.

    Returns:
        What was written: organs kept, new and dropped.

    Raises:
        ValueError: If the file does not name its organs or shares none, or its weights do not fit.
    """
    require_target(target, "bare", force=force)
    fresh, known = _fresh_pooling(tree, seed), _organs_of(file, organs)
    told = {"file": str(target)} | _exchanged(fresh.organs, known)
    weights = extend_pooling(_as_known(file, tree, known), fresh, known)
    extended = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_weights(target, extended)
    return {
        **told,
        "tensors": len(extended),
        "weights hash": weights_hash(extended),
        "next": f"train with init=published init.path={target}",
    }


def extend_pooling(weights: StateDict, fresh: AnatomyPool, known: Sequence[str]) -> StateDict:
    """Exchange the rows of organs in the weights of a model for those of `fresh`'s organs.

    Args:
        weights: Of the whole model under our names, with the organs `known`.
        fresh: Its organs are wanted; what it holds is taken for new ones.
        known: Organs of `weights`, in the order of their rows.
    """
    row_of = {organ: row for row, organ in enumerate(known)}
    old_query = weights[_POOLING + _QUERY]
    query = fresh.query.detach().to(old_query.dtype).clone()
    projections: dict[str, Tensor] = {}
    for number, organ in enumerate(fresh.organs):
        for name, tensor in fresh.projections[number].state_dict().items():
            row = row_of.get(organ)
            old = f"{_POOLING}projections.{row}.{name}"
            new = f"{_POOLING}projections.{number}.{name}"
            projections[new] = tensor.to(old_query.dtype) if row is None else weights[old]
        if organ in row_of:
            query[number] = old_query[row_of[organ]]
    own = f"{_POOLING}projections."
    rest = {name: tensor for name, tensor in weights.items() if not name.startswith(own)}
    return rest | {_POOLING + _QUERY: query} | projections


def _fresh_pooling(tree: Mapping[str, Any], seed: int) -> AnatomyPool:
    """Build the pooling of the model that is wanted."""
    pooling = tree.get("pooling")
    if not isinstance(pooling, Mapping) or "organs" not in pooling:
        raise ValueError(
            f"{tree.get('_target_')} is no model of organs; choose one, such as fvlm_vit_base"
        )
    torch.manual_seed(seed)
    return instantiate(pooling, _convert_="all")


def _exchanged(wanted: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Tell which organs are kept, new and dropped."""
    kept = [organ for organ in wanted if organ in known]
    if not kept:
        raise ValueError(
            f"the file knows {', '.join(known)}, the model {', '.join(wanted)}: no organ is "
            "shared; names must be spelt alike"
        )
    return {
        "kept": kept,
        "new": [organ for organ in wanted if organ not in known],
        "dropped": [organ for organ in known if organ not in wanted],
    }


def _organs_of(file: WeightFile, organs: Sequence[str] | None) -> list[str]:
    """Name the organs of a file: as it does itself, or as the user does."""
    carried = carried_model(file)
    named = None if carried is None else (carried.get("pooling") or {}).get("organs")
    if organs is not None and named is not None and list(organs) != list(named):
        raise ValueError(
            f"{file.path} says that its organs are {', '.join(named)}, not {', '.join(organs)}; "
            "leave --organs out"
        )
    known = named if organs is None else list(organs)
    if known is None:
        raise ValueError(
            f"{file.path} does not name its organs: give them in the order of its rows, as "
            "--organs lung,heart,esophagus,aorta (those of the released weights)"
        )
    return list(known)


def _as_known(file: WeightFile, tree: Mapping[str, Any], known: list[str]) -> dict[str, Tensor]:
    """Bring the weights to our names; strict, against the model with the organs of the file."""
    own = {**tree, "pooling": {**tree["pooling"], "organs": known}}
    model = build_model(own, only_shapes=True)
    if not isinstance(model, FVLM):
        raise ValueError(f"organs of a {type(model).__name__} cannot be extended; only fVLM's can")
    mapped, report = check_weights(model, file.tensors)
    if not report.complete:
        raise ValueError(
            f"{file.path} {misfit(report, differences(model, file.tensors))}; apart from the "
            "organs the model must be the one that was trained"
        )
    return mapped
