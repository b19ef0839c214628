"""The systems whose published weights we know: one entry each.

Everything that takes a weight file goes through `load_weights`, which tells published names from
ours, chooses the rule table, and says in the terms of the model what does not fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    Rule,
    RuleTable,
    StateDict,
    compare,
    fits_names,
    load_published,
    to_published,
)
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.fvlm import FVLM_TABLE, is_fvlm
from medvlp.checkpoints.fvlm import VISION as FVLM_VISION
from medvlp.checkpoints.fvlm import VISION_PREFIX as FVLM_PREFIX
from medvlp.checkpoints.fvlm_facts import fvlm_facts
from medvlp.checkpoints.hlip import DUAL_TOWER, TRUNK, TWO_TOWER, two_tower_table
from medvlp.checkpoints.hlip_facts import hlip_facts
from medvlp.checkpoints.unimed_clip import (
    OPEN_CLIP,
    UNIMED_CLIP,
    VISION,
    VISION_PREFIX,
    is_unimed_clip,
)
from medvlp.checkpoints.unimed_clip_facts import unimed_clip_facts
from medvlp.models.two_tower import TwoTower
from medvlp.vision.hierarchical_vit import HierarchicalViT

OUR_NAMES = RuleTable((Rule("{rest}", "{rest}"),))
"""For files that hold our own names."""


@dataclass(frozen=True)
class PublishedSystem:
    """What must be known of a system to read and write its files.

    Attributes:
        name: For tables and `--json`.
        source: Where its weights were published.
        facts: From published names and shapes to the configuration; None if it is another system.
        fits: Whether a model of ours belongs to the system.
        table: The rule table of such a model.
        tables: All rule tables, to recognise files under our names.
        vision: Published prefix of the image tower.
        vision_table: The rule table of the image tower alone.
        open_clip: Rule table to the names that the open_clip library has for the same model.
    """

    name: str
    source: str
    facts: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    fits: Callable[[nn.Module], bool]
    table: Callable[[nn.Module], RuleTable]
    tables: tuple[RuleTable, ...]
    vision: str
    vision_table: RuleTable
    open_clip: RuleTable | None = None


def _is_hlip(model: nn.Module) -> bool:
    return isinstance(model, TwoTower) and isinstance(model.vision, HierarchicalViT)


SYSTEMS = {
    "hlip": PublishedSystem(
        name="hlip",
        source="github.com/Zch0414/hlip",
        facts=hlip_facts,
        fits=_is_hlip,
        table=two_tower_table,
        tables=(DUAL_TOWER, TWO_TOWER),
        vision="visual.trunk.",
        vision_table=TRUNK,
    ),
    "unimed_clip": PublishedSystem(
        name="unimed_clip",
        source="github.com/mbzuai-oryx/UniMed-CLIP",
        facts=unimed_clip_facts,
        fits=is_unimed_clip,
        table=lambda model: UNIMED_CLIP,
        tables=(UNIMED_CLIP,),
        vision=VISION_PREFIX,
        vision_table=VISION,
        open_clip=OPEN_CLIP,
    ),
    "fvlm": PublishedSystem(
        name="fvlm",
        source="github.com/alibaba-damo-academy/fvlm",
        facts=fvlm_facts,
        fits=is_fvlm,
        table=lambda model: FVLM_TABLE,
        tables=(FVLM_TABLE,),
        vision=FVLM_PREFIX,
        vision_table=FVLM_VISION,
    ),
}


def is_published(model: nn.Module) -> bool:
    """Tell whether weights of models of this kind were published."""
    return any(system.fits(model) for system in SYSTEMS.values())


def system_of(model: nn.Module) -> PublishedSystem:
    """Find the system of a model of ours.

    Raises:
        ValueError: If none published weights of this kind.
    """
    for system in SYSTEMS.values():
        if system.fits(model):
            return system
    raise ValueError(
        f"no published weights are known for a {type(model).__name__}; known systems: "
        f"{', '.join(SYSTEMS)}"
    )


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
        for table in system.tables:
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
        return replace(OUR_NAMES, resizable=known.resizable)
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
        raise CheckpointMismatchError(
            error.report, name=name, differences=differences(model, tensors)
        ) from None


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
    system = system_of(model)
    ours = replace(OUR_NAMES, resizable=system.vision_table.resizable)
    part, table = tensors, system.vision_table
    for prefix, names in ((system.vision, system.vision_table), ("vision.", ours)):
        found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if found:
            part, table = found, names
            break
    vision = model.get_submodule("vision")
    return load_published(vision, part, table, strict=strict, resize_positions=resize_positions)


def check_weights(model: nn.Module, tensors: StateDict) -> tuple[dict[str, Tensor], LoadReport]:
    """Say what `load_weights` would do, without loading."""
    return compare(model, tensors, table_for(model, tensors))


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
