"""Rewrite a weight file under published or under our names, bit by bit."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medvlp.checkpoints.adapter import RuleTable, carried, to_published
from medvlp.checkpoints.files import WeightFile
from medvlp.checkpoints.fingerprint import weights_hash
from medvlp.checkpoints.model_configs import build_model
from medvlp.checkpoints.published_systems import system_of
from medvlp.checkpoints.systems import check_weights, differences, part_of, table_for
from medvlp.checkpoints.verification import misfit

Names = Literal["ours", "published", "open_clip"]
OutLayout = Literal["bare", "module", "nested"]

_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


def require_target(target: Path, layout: OutLayout, *, force: bool) -> None:
    """Check before any work that a file can be written as asked.

    Raises:
        ValueError: If the suffix is unknown, or cannot hold the layout.
        FileExistsError: If the file is there, and not to be replaced.
        FileNotFoundError: If its folder is not there.
    """
    if target.suffix not in _SUFFIXES:
        raise ValueError(
            f"cannot write {target.name}: its name must end with one of {', '.join(_SUFFIXES)}"
        )
    if layout not in get_args(OutLayout):
        raise ValueError(f"layout {layout!r} is unknown; choose {', '.join(get_args(OutLayout))}")
    if target.suffix == ".safetensors" and layout == "nested":
        raise ValueError(
            "safetensors files are flat; choose --layout bare or module, or a .pt file"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}; make it first")
    if target.exists() and not force:
        raise FileExistsError(f"{target} is already there; add --force to replace it")


def convert_file(
    file: WeightFile,
    target: Path,
    tree: Mapping[str, Any],
    *,
    names: Names,
    layout: OutLayout = "bare",
    force: bool = False,
) -> dict[str, Any]:
    """Write all weights of a file under other names; never half of it.

    Args:
        file: In any layout.
        target: Its suffix says the format. Types and bits of the tensors are kept.
        tree: Config of the model that the weights belong to.
        names: Ours, published ones, or those of the open_clip library for the same model.
        layout: "bare", "module" (names with that prefix), or "nested": a dictionary with
            `state_dict`, as medvlp or, for published names, the published code reads it.
        force: Replace a file that is there.

    Returns:
        What was written.

    Raises:
        ValueError: If the weights do not fit the model, or the target cannot be written.
    """
    require_target(target, layout, force=force)
    model = part_of(build_model(tree, only_shapes=True), file.tensors)
    tensors, beside = _renamed(model, file, names)
    write_weights(target, _wrapped(tensors, file, model, names=names, layout=layout))
    return {
        "file": str(target),
        "names": names,
        "layout": layout,
        "tensors": len(tensors),
        "kept without use": [name for name, found in beside.items() if found],
        "left out": [name for name, found in beside.items() if not found],
        "weights hash": weights_hash(tensors),
    }


def _renamed(
    model: nn.Module, file: WeightFile, names: Names
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return all tensors under other names, and what became of those that are without use."""
    mapped, report = check_weights(model, file.tensors)
    if not report.complete:
        raise ValueError(f"{file.path} {misfit(report, differences(model, file.tensors))}")
    table = table_for(model, file.tensors)
    beside = {name: carried({name: file.tensors[name]}, table) for name in report.ignored}
    for tensor in beside.values():
        mapped |= tensor
    renamed = mapped if names == "ours" else to_published(mapped, _names_table(model, names))
    return {name: tensor.contiguous() for name, tensor in renamed.items()}, beside


def _names_table(model: nn.Module, names: Names) -> RuleTable:
    system = system_of(model)
    if names == "published":
        return system.table(model)
    if system.open_clip is None:
        raise ValueError(
            f"open_clip has no such model as those of {system.name}; choose --to published, or "
            "safetensors under our names (--to ours)"
        )
    return system.open_clip


def _wrapped(
    tensors: dict[str, Tensor],
    file: WeightFile,
    model: nn.Module,
    *,
    names: Names,
    layout: OutLayout,
) -> dict[str, Any]:
    if layout == "bare":
        return tensors
    with_prefix = {f"module.{name}": tensor for name, tensor in tensors.items()}
    if layout == "module":
        return with_prefix
    if names != "published":
        return {"state_dict": tensors}
    # The published code takes seven characters off every name, and wants to know the epoch.
    told = {"epoch": file.beside.get("epoch", 0), "name": file.beside.get("name", file.path.stem)}
    if (beside := system_of(model).beside) is not None:
        try:
            told = beside(tensors, file.beside)
        except ValueError as error:
            raise ValueError(f"{file.path}: {error}") from error
    return told | {"state_dict": with_prefix}


def write_weights(target: Path, content: Mapping[str, Any]) -> None:
    """Write a weight file in the format of its suffix, whole or not at all."""
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        if target.suffix == ".safetensors":
            save_file(dict(content), aside, metadata={"format": "pt"})
            aside.chmod(readable())  # safetensors writes for the owner alone
        else:
            torch.save(dict(content), aside)
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def readable() -> int:
    """Say which mode the user gives new files."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
