"""Load and recognise weight files of every known system.

Everything that takes a weight file goes through `load_weights`, which tells published names from
ours, chooses the rule table, and says in the terms of the model what does not fit.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    RuleTable,
    StateDict,
    compare,
    fits_names,
    load_published,
    to_published,
)
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.hsenet_vlm import OWN_NAME, adapter_part
from medvlp.checkpoints.published_systems import (
    OUR_NAMES,
    SYSTEMS,
    PublishedSystem,
    is_published,
    system_of,
)
from medvlp.models.hsenet_vlm import HSENetVLM


def recognise(tensors: StateDict) -> tuple[PublishedSystem | None, bool, dict[str, Any]]:
    """Tell whose weights these are.

    Returns:
        The system, or None; whether the names are ours; and the facts of the configuration.
    """
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for system in SYSTEMS.values():
        facts = system.facts(shapes)
        if facts is not None:
            return system, False, facts
        for table in system.published.tables:
            try:
                published = to_published(tensors, table)
            except (ValueError, RuntimeError):  # other names, or no scalars where they belong
                continue
            facts = system.facts({name: list(t.shape) for name, t in published.items()})
            if facts is not None:
                return system, True, facts
    return None, False, {}


def naming(tensors: StateDict) -> str:
    """Say whose names these are: "ours", "published", "open_clip" or "unknown"."""
    system, ours, _ = recognise(tensors)
    if system is None:
        return "unknown"
    if ours:
        return "ours"
    theirs = system.open_clip is not None and fits_names(tensors, system.open_clip)
    return "open_clip" if theirs else "published"


def table_for(model: nn.Module, tensors: StateDict) -> RuleTable:
    """Choose how the names of a file are read into a model: as published, or as ours."""
    own = set(model.state_dict())
    if own.intersection(tensors) == own or recognise(tensors)[1]:
        known = system_of(model).table(model) if is_published(model) else OUR_NAMES
        return replace(OUR_NAMES, resizable=known.resizable, carried=known.carried)
    return system_of(model).table(model)


def load_weights(
    model: nn.Module,
    source: str | Path | StateDict,
    *,
    strict: bool = True,
    resize_positions: bool = False,
) -> LoadReport:
    """Load a file, or its tensors, under published or under our names into a whole model.

    Raises:
        CheckpointMismatchError: If strict, and the weights do not fit; the message says which
            parts of the configuration differ.
    """
    tensors = open_weights(source).tensors if isinstance(source, (str, Path)) else source
    table = table_for(model, tensors)
    try:
        return load_published(
            model, tensors, table, strict=strict, resize_positions=resize_positions
        )
    except CheckpointMismatchError as error:
        name = str(source) if isinstance(source, (str, Path)) else "the file"
        told = differences(model, tensors)
        if part_of(model, tensors) is not model:
            told = ["the file is an adapter alone: choose init=adapter", *told]
        raise CheckpointMismatchError(error.report, name=name, differences=told) from None


def load_vision(
    model: nn.Module,
    source: str | Path | StateDict,
    *,
    strict: bool = True,
    resize_positions: bool = False,
) -> LoadReport:
    """Load the image tower alone, from a file of the whole model or of the tower.

    Raises:
        CheckpointMismatchError: If strict, and the weights do not fit the tower.
    """
    tensors = open_weights(source).tensors if isinstance(source, (str, Path)) else source
    published = system_of(model).published
    ours = replace(OUR_NAMES, resizable=published.vision_table.resizable)
    part, table = tensors, published.vision_table
    for prefix, names in ((published.vision, published.vision_table), ("vision.", ours)):
        found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if found:
            part, table = found, names
            break
    vision = model.get_submodule("vision")
    return load_published(vision, part, table, strict=strict, resize_positions=resize_positions)


def check_weights(model: nn.Module, tensors: StateDict) -> tuple[dict[str, Tensor], LoadReport]:
    """Say what loading into the part of a model that a file is of would do, without loading."""
    part = part_of(model, tensors)
    return compare(part, tensors, table_for(part, tensors))


def part_of(model: nn.Module, tensors: StateDict) -> nn.Module:
    """Return what a file is of: packers and low-rank layers, if it is an adapter, or all."""
    if isinstance(model, HSENetVLM) and is_adapter(tensors):
        return adapter_part(model, tensors)
    return model


def is_adapter(tensors: StateDict) -> bool:
    """Tell whether these are the weights of an adapter, under published names or ours."""
    ours = "packer." in {name[:7] for name in tensors} and all(map(OWN_NAME.match, tensors))
    return ours or recognise(tensors)[0] is SYSTEMS["hsenet_adapter"]


def differences(model: nn.Module, tensors: StateDict) -> list[str]:
    """List in which facts of the configuration a file and a model differ."""
    if not is_published(model):
        return []
    there, here = recognise(tensors)[2], facts_of(model)
    return [
        f"{name}: {there[name]} in the file, {here[name]} in the model"
        for name in there
        if name in here and None not in (there[name], here[name]) and there[name] != here[name]
    ]


def facts_of(model: nn.Module) -> dict[str, Any]:
    """Read the facts of a model of ours as from a published file."""
    system = system_of(model)
    exported = to_published(model.state_dict(), system.table(model))
    return system.facts({name: list(tensor.shape) for name, tensor in exported.items()}) or {}
