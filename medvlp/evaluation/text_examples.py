"""A few generated texts beside the true ones, to read."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from medvlp.evaluation.results import Results

NUM_EXAMPLES = 5


def text_examples(results: Results, number: int = NUM_EXAMPLES) -> list[Mapping[str, Any]]:
    """Take rows of `predictions` at even distances; none where nothing was generated."""
    rows = [row for row in results.predictions if {"pred", "Ground Truth"} <= set(row)]
    taken = min(number, len(rows))
    return [rows[place * len(rows) // taken] for place in range(taken)]


def examples_table(examples: Sequence[Mapping[str, Any]]) -> Table:
    """Show them for the terminal, question by question where there are some."""
    names, rows = _cells(examples)
    title = f"{len(rows)} of the texts; predictions.csv has all"
    table = Table(*names, title=title, title_justify="left", box=box.SIMPLE_HEAD, show_lines=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: rich would read square brackets as markup
    return table


def examples_markdown(examples: Sequence[Mapping[str, Any]]) -> str:
    """Show them as a Markdown table."""
    names, rows = _cells(examples)
    clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [names, ["---"] * len(names), *clean]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(examples: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Give names of columns and the texts of each row."""
    columns = {"sample_id": "sample", "Question": "question", "pred": "generated"}
    columns |= {"Ground Truth": "truth"}
    kept = [key for key in columns if key in examples[0]]
    return [columns[key] for key in kept], [[str(row[key]) for key in kept] for row in examples]
