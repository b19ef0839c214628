"""The one schema of result files: what was measured, on what, with which uncertainty."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
CHOICE_METRICS = ("balanced_accuracy", "f1_weighted", "accuracy")
"""Figures of a choice among classes: macro rows of one-of-k tasks have them."""

_LATER_FIELDS = {"score_rule", "left_out", "notes"}  # files of the first release lack them


@dataclass(frozen=True)
class Figure:
    """A number with the ends of its 95 % patient-level bootstrap interval; NaN if undefined."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Curve:
    """Points of a curve: ROC (false, true positive rate) or reliability (score, frequency)."""

    x: list[float]
    y: list[float]
    count: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """All figures of one class.

    Attributes:
        name: The class, as the label column is called.
        tier: Difficulty tier of the prompt set; empty if it has none.
        num_positive: Studies with the finding among those whose label is known.
        num_known: Studies whose label is known.
        threshold: Operating point of the starred figures.
        figures: By metric name: auroc, ap, ap_skill, brier, ece and the published keys.
        roc: ROC curve.
        reliability: Mean score against observed frequency, and the count of each bin.
    """

    name: str
    tier: str
    num_positive: int
    num_known: int
    threshold: float
    figures: dict[str, Figure]
    roc: Curve
    reliability: Curve

    @property
    def prevalence(self) -> float:
        """Share of positives among the known labels: what AP is for a random score."""
        return self.num_positive / self.num_known


@dataclass(frozen=True)
class Macro:
    """Unweighted mean over some findings, from the same resamples as the findings."""

    name: str
    findings: list[str]
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Subgroup:
    """Macro figures over the studies that share an attribute (sex, age band, scanner)."""

    attribute: str
    value: str
    num_samples: int
    num_findings: int
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from; the caller of the evaluation fills it.

    Attributes:
        checkpoint_hash: Of the file of the weights.
        commit: Of the code.
        seed: Of the run.
        input_size: Of the network's input (d, h, w): more slices than in training may be shown.
        recipe_changes: Field of the recipe -> its value in training and now; allowed by name.
    """

    checkpoint_hash: str | None = None
    commit: str | None = None
    seed: int | None = None
    input_size: list[int] | None = None
    recipe_changes: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that `results.json` holds.

    Attributes:
        protocol: Name of the protocol, e.g. "zero_shot/ct_rate/volume".
        num_samples: Scored samples after duplicates were dropped.
        num_patients: The unit that the bootstrap resamples.
        prompt_hash: Hash of the prompt set's content.
        recipe_hash: Hash of the preprocessing contract the scans were made with.
        threshold_rule: How the operating points of the starred figures were chosen.
        bootstrap: Unit, resamples, level and seed of the intervals.
        findings: One per scored class, in protocol order.
        macros: Mean rows, "all" first.
        worst_finding: Name of the finding with the lowest AUROC; empty if none was scored.
        subgroups: Empty where the batch carried no metadata.
        skipped: Class -> why it has no figures (one label value only, or no known label).
        duplicates_dropped: Samples seen more than once (padding of the last global batch).
        score_rule: How similarities became scores: "pair", "cosine", "choice".
        left_out: Reason -> how many samples took no part because of it.
        notes: What a reader of the figures should know besides.
        provenance: Checkpoint, commit, seed.
        predictions: One row per sample for `predictions.csv`; not part of the JSON.
    """

    protocol: str
    num_samples: int
    num_patients: int
    prompt_hash: str
    recipe_hash: str
    threshold_rule: str = ""
    bootstrap: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    macros: list[Macro]
    worst_finding: str = ""
    subgroups: list[Subgroup] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    duplicates_dropped: int = 0
    score_rule: str = "pair"
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    provenance: Provenance = Provenance()
    schema_version: int = SCHEMA_VERSION
    predictions: list[dict[str, Any]] = field(default_factory=list, compare=False)

    @property
    def kind(self) -> str:
        """First part of the protocol's name: "zero_shot", "zero_shot_catalogue"."""
        return self.protocol.partition("/")[0]

    def metrics(self) -> dict[str, float]:
        """Return flat numbers for loggers, checkpoints and sweeps.

        The macro over all findings is `auroc_macro`, over a tier or group `auroc_macro_<name>`,
        with `_low` and `_high` for the interval of the AUROC; one finding is `auroc_<name>`. A
        choice among classes adds `balanced_accuracy`, `f1_weighted` and `accuracy`, with the
        interval of the first. A macro without AUROC gives all of its figures as `<name>_<metric>`.
        """
        flat: dict[str, float] = {}
        for macro in self.macros:
            if "auroc" not in macro.figures:
                flat |= {f"{macro.name}_{key}": one.value for key, one in macro.figures.items()}
                continue
            suffix = "" if macro.name == "all" else f"_{slug(macro.name)}"
            for metric in ("auroc", "ap", "ap_skill", "brier", "ece"):
                flat[f"{metric}_macro{suffix}"] = macro.figures[metric].value
            flat[f"auroc_macro{suffix}_low"] = macro.figures["auroc"].low
            flat[f"auroc_macro{suffix}_high"] = macro.figures["auroc"].high
            for metric in CHOICE_METRICS:
                if metric in macro.figures:
                    flat[f"{metric}{suffix}"] = macro.figures[metric].value
            if "balanced_accuracy" in macro.figures:
                balanced = macro.figures["balanced_accuracy"]
                flat[f"balanced_accuracy{suffix}_low"] = balanced.low
                flat[f"balanced_accuracy{suffix}_high"] = balanced.high
        flat |= {f"auroc_{slug(f.name)}": f.figures["auroc"].value for f in self.findings}
        return flat

    def with_provenance(
        self,
        *,
        checkpoint_hash: str | None = None,
        commit: str | None = None,
        seed: int | None = None,
        input_size: Sequence[int] | None = None,
        recipe_changes: Mapping[str, list[Any]] | None = None,
    ) -> "Results":
        """Return a copy that says which weights, code and seed gave the numbers."""
        provenance = Provenance(
            checkpoint_hash=checkpoint_hash,
            commit=commit,
            seed=seed,
            input_size=None if input_size is None else list(input_size),
            recipe_changes=dict(recipe_changes or {}),
        )
        return replace(self, provenance=provenance)

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, without the predictions; NaN becomes None."""
        tree = asdict(self)
        del tree["predictions"]
        return without_nan(tree)

    def to_json(self, path: str | Path) -> Path:
        """Write the file and return its path; folders are made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Results":
        """Rebuild from `to_dict`.

        Raises:
            ValueError: If another schema version, or a field is missing or unknown.
        """
        version = tree.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"result file has schema version {version}, this version of medvlp reads "
                f"{SCHEMA_VERSION}; evaluate the checkpoint again"
            )
        known = {f.name for f in fields(cls)} - {"predictions"}
        if known - _LATER_FIELDS != set(tree) - _LATER_FIELDS:
            raise ValueError(
                f"result file lacks {sorted(known - _LATER_FIELDS - set(tree))} and has unknown "
                f"{sorted(set(tree) - known)}; evaluate the checkpoint again"
            )
        return cls(**{key: _PARSERS.get(key, _identity)(value) for key, value in tree.items()})

    @classmethod
    def from_json(cls, path: str | Path) -> "Results":
        """Read a file that `to_json` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text()))


def slug(name: str) -> str:
    """Write a name in lower case with underscores.

    >>> slug("Lung nodule")
    'lung_nodule'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def without_nan(tree: Any) -> Any:
    """Replace numbers that JSON cannot hold by null."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _identity(value: Any) -> Any:
    return value


def _figures(tree: Mapping[str, Any]) -> dict[str, Figure]:
    def number(value: float | None) -> float:
        return math.nan if value is None else value

    return {name: Figure(**{k: number(v) for k, v in f.items()}) for name, f in tree.items()}


def _finding(tree: Mapping[str, Any]) -> Finding:
    curves = {key: Curve(**tree[key]) for key in ("roc", "reliability")}
    return Finding(**{**tree, "figures": _figures(tree["figures"]), **curves})


def _macros(trees: Sequence[Mapping[str, Any]]) -> list[Macro]:
    return [Macro(**{**tree, "figures": _figures(tree["figures"])}) for tree in trees]


def _subgroups(trees: Sequence[Mapping[str, Any]]) -> list[Subgroup]:
    return [Subgroup(**{**tree, "figures": _figures(tree["figures"])}) for tree in trees]


_PARSERS = {
    "findings": lambda trees: [_finding(tree) for tree in trees],
    "macros": _macros,
    "subgroups": _subgroups,
    "provenance": lambda tree: Provenance(**tree),
}
