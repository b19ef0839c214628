"""Tables of a result file: for the terminal, in Markdown, and predictions as CSV.

Everything here depends on the `Results` alone, so the same file gives the same text.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.evaluation import catalogue_report
from medvlp.evaluation.results import Figure, Macro, Results

WIDTH = 100
_COLUMNS = ("finding", "tier", "pos", "prev", "AUROC [95 %]", "AP [95 %]")


def print_table(results: Results, console: Console | None = None) -> None:
    """Print the table with its notes; its width does not depend on the terminal's."""
    console = console or Console(width=WIDTH)
    of_sets = results.kind == catalogue_report.KIND
    for table in catalogue_report.rich_tables(results) if of_sets else [_rich_table(results)]:
        console.print(table)
    for note in _notes(results):
        console.print(note, highlight=False, markup=False)


def to_text(results: Results) -> str:
    """Return what `print_table` prints, without colours."""
    buffer = io.StringIO()
    print_table(results, Console(file=buffer, width=WIDTH, color_system=None))
    return buffer.getvalue()


def to_markdown(results: Results) -> str:
    """Return the table and its notes as Markdown."""
    if results.kind == catalogue_report.KIND:
        lines = catalogue_report.markdown_lines(results)
        return "\n".join([*lines, *(f"- {note}" for note in _notes(results))]) + "\n"
    if not _is_ranked(results):
        lines = [f"### {results.protocol}", ""]
        for macro in results.macros:
            names, cells = zip(*_macro_cells(macro), strict=True)
            lines += [f"| {macro.name} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
            lines += [f"| | {' | '.join(cells)} |", ""]
        return "\n".join([*lines, *(f"- {note}" for note in _notes(results))]) + "\n"
    rows = [(*_COLUMNS, "AP skill"), ("---",) * (len(_COLUMNS) + 1)]
    entries = [*results.findings, *results.macros]
    table = [*_finding_rows(results), *((f"**{r[0]}**", *r[1:]) for r in _macro_rows(results))]
    for entry, row in zip(entries, table, strict=True):
        rows.append((*row, f"{entry.figures['ap_skill'].value:+.3f}"))
    lines = [f"### {results.protocol}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += [f"- {note}" for note in _notes(results)]
    return "\n".join([*lines, *_subgroup_lines(results)]) + "\n"


def write_predictions(results: Results, path: str | Path) -> Path:
    """Write ids, one score per class and one label per class for every sample as CSV.

    Raises:
        ValueError: If the results were read from a file, which does not hold predictions.
    """
    if not results.predictions:
        raise ValueError(
            "these results hold no predictions (a result file never does); evaluate the checkpoint"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(results.predictions[0]))
        writer.writeheader()
        writer.writerows(results.predictions)
    return path


def _is_ranked(results: Results) -> bool:
    """Whether the figures are those of classes, rather than of retrieval and the like."""
    return bool(results.findings) or all("auroc" in macro.figures for macro in results.macros)


def _macro_cells(macro: Macro) -> list[tuple[str, str]]:
    return [
        (name, f"{one.value:.0f}" if name == "n" else _interval(one))
        for name, one in macro.figures.items()
    ]


def _figure_table(results: Results, table: Table) -> Table:
    """Fill the table with one line per figure of every macro row."""
    for column in ("", "figure", "value [95 %]"):
        table.add_column(column, justify="right" if column.startswith("value") else "left")
    for macro in results.macros:
        for line, (name, cell) in enumerate(_macro_cells(macro)):
            table.add_row(*map(Text, ("" if line else macro.name.replace("_", " "), name, cell)))
        table.add_section()
    return table


def _rich_table(results: Results) -> Table:
    table = Table(title=Text(results.protocol), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = "left"
    if not _is_ranked(results):
        return _figure_table(results, table)
    for k, column in enumerate(_COLUMNS):
        # long names give way to numbers, which are never cut
        table.add_column(Text(column), justify="left" if k < 2 else "right", no_wrap=k > 0)
    for row in _finding_rows(results):
        table.add_row(*map(Text, row))  # Text: rich would read square brackets as markup
    table.add_section()
    for row in _macro_rows(results):
        table.add_row(*map(Text, row), style="bold")
    return table


def _finding_rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            finding.name,
            finding.tier,
            str(finding.num_positive),
            f"{finding.prevalence:.3f}",
            *_cells(finding.figures),
        )
        for finding in results.findings
    ]


def _macro_rows(results: Results) -> list[tuple[str, ...]]:
    rows = []
    for macro in results.macros:
        known = [f for f in results.findings if f.name in macro.findings]
        share = sum(f.prevalence for f in known) / len(known) if known else math.nan
        name = f"mean: {macro.name.replace('_', ' ')} ({len(known)})"
        rows.append((name, "", "", f"{share:.3f}", *_cells(macro.figures)))
    return rows


def _cells(figures: Mapping[str, Figure]) -> tuple[str, str]:
    return _interval(figures["auroc"]), _interval(figures["ap"])


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _notes(results: Results) -> list[str]:
    boot = results.bootstrap
    notes = [
        f"{results.num_samples} samples of {results.num_patients} patients; intervals: "
        f"{boot['level']:.0%} bootstrap over patients, {boot['resamples']} resamples",
    ]
    if results.kind == catalogue_report.KIND:
        notes.append(catalogue_report.LEGEND)
    elif _is_ranked(results):
        notes.append("chance: AUROC 0.500, AP = prevalence (prev)")
    elif results.kind.startswith("retrieval"):
        notes.append("chance: of n items, mean rank (n + 1) / 2, R@k k / n")
    if results.findings:
        notes += _notes_of_findings(results)
    if results.macros and "balanced_accuracy" in results.macros[0].figures:
        figures = results.macros[0].figures
        notes.append(
            f"balanced accuracy {_interval(figures['balanced_accuracy'])}, "
            f"weighted F1 {_interval(figures['f1_weighted'])}"
        )
    if results.left_out:
        named = ", ".join(f"{count} {reason}" for reason, count in results.left_out.items())
        notes.append(f"took no part: {sum(results.left_out.values())} samples: {named}")
    if results.skipped:
        by_reason: dict[str, list[str]] = {}
        for name, reason in results.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        named = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in by_reason.items())
        notes.append(f"not scored: {len(results.skipped)} ({named})")
    if results.duplicates_dropped:
        notes.append(f"duplicate samples dropped: {results.duplicates_dropped}")
    return notes + results.notes


def _notes_of_findings(results: Results) -> list[str]:
    worst = next(f for f in results.findings if f.name == results.worst_finding)
    figures = results.macros[0].figures
    calibration = "scores are cosines: no probabilities, so there is no calibration"
    if results.score_rule != "cosine":
        calibration = (
            f"calibration of the mean: ECE {_interval(figures['ece'])}, "
            f"Brier {_interval(figures['brier'])}"
        )
    return [
        f"worst finding: {worst.name}, AUROC {_interval(worst.figures['auroc'])}",
        calibration,
        f"thresholds: {results.threshold_rule}",
    ]


def _subgroup_lines(results: Results) -> list[str]:
    if not results.subgroups:
        return []
    head = ["", "| subgroup | samples | findings | mean AUROC | mean AP |", "|---|---|---|---|---|"]
    return head + [
        f"| {group.attribute}: {group.value} | {group.num_samples} | {group.num_findings} "
        f"| {_interval(group.figures['auroc'])} | {_interval(group.figures['ap'])} |"
        for group in results.subgroups
    ]
