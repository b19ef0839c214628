"""Tables of an evaluation over many labelled sets: per set, per modality, as the paper prints."""

from rich import box
from rich.table import Table
from rich.text import Text

from medvlp.evaluation.published_unimed import mean_rows, percent, printed_table, set_rows
from medvlp.evaluation.results import Figure, Macro, Results

KIND = "zero_shot_catalogue"
LEGEND = (
    "n: images; chance: one guess among the classes; acc: all images alike, balanced: all classes "
    "alike; mixed: AUC in place of the accuracy of the sets that have one"
)

_SETS = ("set", "modality", "n", "chance", "acc % [95 %]", "AUC % [95 %]", "balanced %")
_FURTHER = ("balanced [95 %]", "largest class")
_MEANS = ("mean over", "sets", "acc % [95 %]", "balanced % [95 %]", "mixed % [95 %]")


def rich_tables(results: Results) -> list[Table]:
    """Return the table of sets and that of means."""
    tables = [
        _rich(_SETS, _set_cells(results), left=2),
        _rich(_MEANS, _mean_cells(results), left=1),
    ]
    tables[0].title = Text(results.protocol)
    tables[0].title_justify = "left"
    return tables


def markdown_lines(results: Results) -> list[str]:
    """Return the same as Markdown; for the 21 sets also under the paper's printed heads."""
    lines = [f"### {results.protocol}", ""]
    lines += _markdown([(*_SETS, *_FURTHER), *_set_cells(results)])
    lines += ["", *_markdown([_MEANS, *_mean_cells(results)])]
    if _is_published(results):
        lines += ["", "As the paper prints the means, whose heads are partly exchanged:", ""]
        lines += _markdown(printed_table(results))
    return [*lines, ""]


def _is_published(results: Results) -> bool:
    return results.protocol.split("/")[1].split(" ")[0] == "unimed21"


def _set_cells(results: Results) -> list[tuple[str, ...]]:
    modality = {
        name: macro.name
        for macro in mean_rows(results)
        for name in macro.findings
        if macro.name != "mean"
    }
    return [
        (
            macro.name,
            modality.get(macro.name, ""),
            f"{macro.figures['n'].value:.0f}",
            percent(macro.figures["chance"]),
            _interval(macro.figures["acc"]),
            _interval(macro.figures["auc_roc"]) if "auc_roc" in macro.figures else "",
            percent(macro.figures["balanced_acc"]),
            _interval(macro.figures["balanced_acc"]),
            percent(macro.figures["largest_class"]),
        )
        for macro in set_rows(results)
    ]


def _mean_cells(results: Results) -> list[tuple[str, ...]]:
    rows = mean_rows(results)
    return [_mean_row(macro) for macro in (*rows[1:], rows[0])]


def _mean_row(macro: Macro) -> tuple[str, ...]:
    figures = macro.figures
    values = (_interval(figures[key]) for key in ("acc", "balanced_acc", "mixed"))
    name = "all sets" if macro.name == "mean" else macro.name
    return (name, f"{figures['n_sets'].value:.0f}", *values)


def _interval(figure: Figure) -> str:
    low, high = Figure(figure.low), Figure(figure.high)
    return f"{percent(figure)} [{percent(low)}, {percent(high)}]"


def _rich(head: tuple[str, ...], rows: list[tuple[str, ...]], *, left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for k, column in enumerate(head):
        table.add_column(Text(column), justify="left" if k < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row), style="bold" if row[0] == "all sets" else None)
    return table


def _markdown(rows: list[tuple[str, ...]] | list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]
