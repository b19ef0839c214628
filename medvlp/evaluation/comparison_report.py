"""Tables of a comparison: for the terminal and in Markdown."""

import json
import math
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.evaluation.comparison import METRICS, Comparison, Pair
from medvlp.evaluation.results import Figure, without_nan

_WIDTH = 100
_TITLES = {"auroc": "AUROC", "ap": "AP"}
_MEAN = "mean"


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write `comparison.json` and `comparison.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(without_nan(comparison.to_dict()), indent=1, allow_nan=False)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(comparison_markdown(comparison), encoding="utf-8")


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the AUROCs, the mean AP and the notes."""
    console = console or Console(width=_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(_columns("auroc")):
        table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
    for row in _rows(comparison, "auroc"):
        table.add_row(*map(Text, row), style="bold" if row[0] == _MEAN else "")
    console.print(table)
    for note in (*_all_notes(comparison), _mean_ap(comparison)):
        console.print(note, highlight=False, markup=False)


def comparison_markdown(comparison: Comparison) -> str:
    """Return a table for each metric, and the notes."""
    lines: list[str] = []
    for metric in METRICS:
        columns = _columns(metric)
        lines += [f"### {_TITLES[metric]}", "", f"| {' | '.join(columns)} |"]
        lines.append("|---" * len(columns) + "|")
        for name, *cells in _rows(comparison, metric):
            name = f"**{name}**" if name == _MEAN else name
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in _all_notes(comparison))]) + "\n"


def _columns(metric: str) -> tuple[str, ...]:
    columns = (_TITLES[metric], "pos", "A", "B", "A - B [95 %]")
    return (*columns, "DeLong p") if metric == "auroc" else columns


def _rows(comparison: Comparison, metric: str) -> list[tuple[str, ...]]:
    rows = []
    for finding in comparison.findings:
        cells = (str(finding.num_positive), *_cells(finding.pairs[metric]))
        p = (_p_value(finding.delong_p),) if metric == "auroc" else ()
        rows.append((finding.name, *cells, *p))
    last = ("",) if metric == "auroc" else ()
    return [*rows, (_MEAN, "", *_cells(comparison.macro[metric]), *last)]


def _cells(pair: Pair) -> tuple[str, str, str]:
    return f"{pair.first.value:.3f}", f"{pair.second.value:.3f}", _signed(pair.difference)


def _signed(one: Figure) -> str:
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def _p_value(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _mean_ap(comparison: Comparison) -> str:
    first, second, difference = _cells(comparison.macro["ap"])
    return f"mean AP: A {first}, B {second}, A - B {difference}"


def _all_notes(comparison: Comparison) -> list[str]:
    boot = comparison.bootstrap
    notes = [
        *(_named(letter, run) for letter, run in zip("AB", _runs(comparison), strict=True)),
        f"{comparison.num_samples} samples of {comparison.num_patients} patients, the same in both "
        f"runs; intervals: {boot['level']:.0%} paired bootstrap over patients, "
        f"{boot['resamples']} resamples, seed {boot['seed']}",
    ]
    if comparison.skipped:
        named = "; ".join(f"{name}: {why}" for name, why in comparison.skipped.items())
        notes.append(f"not compared: {len(comparison.skipped)} ({named})")
    return notes + comparison.notes


def _runs(comparison: Comparison) -> tuple[dict[str, Any], dict[str, Any]]:
    return comparison.first, comparison.second


def _named(letter: str, facts: dict[str, Any]) -> str:
    return (
        f"{letter}: {facts['folder']} ({facts['protocol']}, seed {facts['seed']}, "
        f"checkpoint {facts['checkpoint_hash']})"
    )
