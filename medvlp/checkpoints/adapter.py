"""One engine that carries weights between published names and ours, both ways, bit by bit."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

StateDict = Mapping[str, Tensor]


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Rule:
    """One line of a rule table.

    Names are templates: `{rest}` stands for any text and is carried over, so that one line reads
    in both directions. The first rule that fits a name decides.

    Attributes:
        published: Template of the published name.
        ours: Template of our name, with the same placeholders.
        to_ours: Tensor op on the way in; must be undone exactly by `to_published`.
        to_published: Tensor op on the way out.
    """

    published: str
    ours: str
    to_ours: Callable[[Tensor], Tensor] = _same
    to_published: Callable[[Tensor], Tensor] = _same


@dataclass(frozen=True)
class RuleTable:
    """Everything a system's published files need.

    Attributes:
        rules: Tried in order.
        aliases: Regular expression of an old published name -> replacement.
        ignored: Regular expression of a published name -> test of its tensor, for what carries
            no weights of ours, as old buffers do. Ignored only where the model has no such tensor.
        resizable: Regular expression of a name of ours -> function from a tensor and a number of
            rows to a tensor of so many, for tables of positions.
        carried: Regular expression of names of ours that a model may lack, as an unused head:
            ignored then, and kept by a conversion.
    """

    rules: Sequence[Rule]
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, Callable[[Tensor], bool]] = field(default_factory=dict)
    resizable: Mapping[str, Callable[[Tensor, int], Tensor]] = field(default_factory=dict)
    carried: str = ""


@dataclass
class LoadReport:
    """What became of every name; all lists are sorted.

    Attributes:
        loaded: Our names that received a tensor.
        renamed: Published name -> our name, where they differ.
        ignored: Published names on the table's list of harmless ones.
        missing: Our names for which nothing came.
        unexpected: Published names that no parameter of ours takes.
        mismatched: Our name -> what came and what was expected.
        resized: Our name -> from which shape to which, where that was asked for.
    """

    loaded: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    resized: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every tensor of ours was filled and every published one used."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """Summarise in a few lines, naming what did not fit."""
        lines = [
            f"{len(self.loaded)} tensors loaded, {len(self.renamed)} of them renamed, "
            f"{len(self.ignored)} ignored by name"
        ]
        shapes, resized = (
            [f"{name}: {what}" for name, what in table.items()]
            for table in (self.mismatched, self.resized)
        )
        for title, names in (
            ("resized", resized),
            ("missing here (the model has it, the file does not)", self.missing),
            ("unexpected (the file has it, the model does not)", self.unexpected),
            ("of another shape", shapes),
        ):
            if names:
                shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                lines.append(f"{len(names)} {title}: {shown}")
        return "\n".join(lines)


class CheckpointMismatchError(ValueError):
    """Published weights that do not fit the model; `report` says where.

    Args:
        report: Of the comparison.
        name: Of the file, where there is one.
        differences: In which terms of the configuration file and model differ, if it is known.
    """

    def __init__(
        self, report: LoadReport, *, name: str = "the weights", differences: Sequence[str] = ()
    ) -> None:
        cause = f" ({'; '.join(differences)})" if differences else ""
        super().__init__(
            f"{name} and the model do not fit together, nothing was loaded{cause}\n{report}\n"
            "Choose the model config that these weights belong to, or load with strict=False to "
            "keep the model's own values for what does not fit"
        )
        self.report = report


def load_published(
    module: nn.Module,
    published: StateDict,
    table: RuleTable,
    *,
    strict: bool = True,
    resize_positions: bool = False,
) -> LoadReport:
    """Load published weights into a module of ours, all or nothing.

    Args:
        module: Receives the weights.
        published: Tensors under published names, see `files.read_weights`.
        table: Rule table of the system.
        strict: Raise unless every tensor finds its place. Otherwise load what fits; the report
            names the rest.
        resize_positions: Resize tables of positions that were made for another input size.

    Raises:
        CheckpointMismatchError: If strict, and something is missing, unexpected or misshapen.
    """
    mapped, report = compare(module, published, table, resize_positions=resize_positions)
    if strict and not report.complete:
        raise CheckpointMismatchError(report)
    own = module.state_dict()
    with torch.no_grad():
        for name in report.loaded:
            own[name].copy_(mapped[name])
    return report


def compare(
    module: nn.Module, published: StateDict, table: RuleTable, *, resize_positions: bool = False
) -> tuple[dict[str, Tensor], LoadReport]:
    """Say what `load_published` would do, without loading.

    Returns:
        The tensors under our names, and the report.
    """
    own = module.state_dict()
    mapped, report = to_ours(published, table, set(own))
    for name, tensor in mapped.items():
        came, expected = tuple(tensor.shape), tuple(own[name].shape)
        if came == expected:
            continue
        resize = _resize_of(name, table) if came[1:] == expected[1:] else None
        if resize is not None and resize_positions:
            mapped[name] = resize(tensor, len(own[name]))
            report.resized[name] = f"{came} to {expected}"
            continue
        hint = "; resize_positions=true resizes it" if resize is not None else ""
        report.mismatched[name] = f"{came} came, {expected} was expected{hint}"
    report.missing = sorted(set(own) - set(mapped))
    report.loaded = sorted(set(mapped) - set(report.mismatched))
    return mapped, report


def to_ours(
    published: StateDict, table: RuleTable, known: set[str]
) -> tuple[dict[str, Tensor], LoadReport]:
    """Rename published tensors.

    Args:
        published: Tensors under published names.
        table: Rule table of the system.
        known: Names that our model has; others are unexpected or ignored.

    Raises:
        ValueError: If two published tensors claim the same place.
    """
    report = LoadReport()
    mapped: dict[str, Tensor] = {}
    for name in sorted(published):
        current, ours, operation = _read(name, table)
        if ours is None or ours not in known:
            harmless = re.fullmatch(table.carried, ours or "-") or any(
                re.fullmatch(pattern, current) and test(published[name])
                for pattern, test in table.ignored.items()
            )
            (report.ignored if harmless else report.unexpected).append(name)
            continue
        if ours in mapped:
            raise ValueError(
                f"two published tensors claim {ours}, the second is {name}; remove one of them "
                "from the file"
            )
        mapped[ours] = operation(published[name])
        if ours != name:
            report.renamed[name] = ours
    return mapped, report


def carried(published: StateDict, table: RuleTable) -> dict[str, Tensor]:
    """Give our names to what a model lacks and a conversion keeps, see `RuleTable.carried`."""
    found = {name: _read(name, table)[1:] for name in published}
    return {
        ours: operation(published[name])
        for name, (ours, operation) in found.items()
        if ours is not None and re.fullmatch(table.carried, ours)
    }


def to_published(ours: StateDict, table: RuleTable) -> dict[str, Tensor]:
    """Rename our tensors to published names, undoing `to_ours` exactly.

    Raises:
        ValueError: If a tensor has no published counterpart.
    """
    lines = [(rule.ours, rule.published, rule.to_published) for rule in table.rules]
    exported: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        published, operation = _translate(name, lines)
        if published is None:
            raise ValueError(
                f"{name} has no name in the published format; export a model that this system "
                "published, or add a rule"
            )
        exported[published] = operation(tensor).contiguous()
    return exported


def fits_names(tensors: StateDict, table: RuleTable) -> bool:
    """Tell whether every name is one that the table's rules know, or ignore, as published."""
    lines = [(rule.published, rule.ours, rule.to_ours) for rule in table.rules]
    return all(
        _translate(name, lines)[0] is not None
        or any(re.fullmatch(pattern, name) for pattern in table.ignored)
        for name in tensors
    )


def nested(rules: Sequence[Rule], published: str, ours: str) -> list[Rule]:
    """Put a prefix before both names of each rule."""
    return [
        Rule(published + rule.published, ours + rule.ours, rule.to_ours, rule.to_published)
        for rule in rules
    ]


def scalar_to_vector(tensor: Shaped[Tensor, ""]) -> Shaped[Tensor, "1"]:
    """Give a scalar one axis: sharded parameters need it."""
    return tensor.reshape(1)


def vector_to_scalar(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, ""]:
    """Undo `scalar_to_vector`; refuse tensors of several elements."""
    return tensor.reshape(())


def _resize_of(name: str, table: RuleTable) -> Callable[[Tensor, int], Tensor] | None:
    found = (op for pattern, op in table.resizable.items() if re.fullmatch(pattern, name))
    return next(found, None)


def _read(name: str, table: RuleTable) -> tuple[str, str | None, Callable[[Tensor], Tensor]]:
    """Return a published name without its alias, ours, and what becomes of the tensor."""
    for pattern, replacement in table.aliases.items():
        name = re.sub(pattern, replacement, name)
    return name, *_translate(name, [(r.published, r.ours, r.to_ours) for r in table.rules])


def _translate(
    name: str, lines: Sequence[tuple[str, str, Callable[[Tensor], Tensor]]]
) -> tuple[str | None, Callable[[Tensor], Tensor]]:
    for source, target, operation in lines:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(source))
        match = re.fullmatch(pattern, name)
        if match:
            return target.format(**match.groupdict()), operation
    return None, _same
