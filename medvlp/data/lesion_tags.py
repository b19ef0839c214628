"""Tables of lesions by final names, and by the words that HCL-AL's samplers go by; both ways.

    python -m medvlp.data.lesion_tags anno.csv train.csv --vocabulary VOCABULARY
    python -m medvlp.data.lesion_tags train.csv anno.csv --vocabulary VOCABULARY --back

anno.csv has a row for each lesion, whose cell GT joins final names with commas. train.csv has a row
for each lesion and name, with coarse_gt and fine_gt.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_table import BOX_COLUMNS, names_of
from medvlp.data.tables import read_table
from medvlp.user_errors import one_line_errors

NAMES, COARSE, FINE = "GT", "coarse_gt", "fine_gt"
Row = dict[str, str]


class Tagged(NamedTuple):
    """Converted rows.

    Attributes:
        rows: In the order of the table.
        problems: What was left out, and why.
    """

    rows: list[Row]
    problems: list[str]


def to_words(rows: Sequence[Mapping[str, str]], vocabulary: PlaceVocabulary) -> Tagged:
    """Write a row for each name of each lesion; names that the vocabulary lacks are left out."""
    made: list[Row] = []
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        names = names_of(row[NAMES])
        if not names:
            problems.append(f"lesion {number}: it has no name")
        rest = {key: cell for key, cell in row.items() if key != NAMES}
        for name in names:
            try:
                place = vocabulary.locate(name)
            except ValueError as error:
                problems.append(f"lesion {number}: {error}")
            else:
                made.append(rest | {COARSE: place.coarse, FINE: place.fine})
    return Tagged(made, problems)


def to_names(rows: Sequence[Mapping[str, str]], vocabulary: PlaceVocabulary) -> Tagged:
    """Join the names of rows that are the same lesion: all other cells are equal."""
    lesions: dict[tuple[tuple[str, str], ...], list[str]] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        rest = tuple((key, cell) for key, cell in row.items() if key not in (COARSE, FINE))
        try:
            places = vocabulary.within(row[COARSE])
        except ValueError as error:
            problems.append(f"row {number}: {error}")
            continue
        found = [place.name for place in places if place.fine == row[FINE]]
        if found:
            lesions.setdefault(rest, []).extend(found)
        else:
            problems.append(f"row {number}: {row[FINE]!r} is not a fine word of {row[COARSE]!r}")
    named = [dict(rest) | {NAMES: ",".join(names_of(",".join(n)))} for rest, n in lesions.items()]
    return Tagged(named, problems)


def convert(source: Path, target: Path, vocabulary: PlaceVocabulary, *, back: bool) -> list[str]:
    """Convert a table; returns what was left out.

    Raises:
        FileNotFoundError, ValueError: If the table cannot be read, or nothing of it is left.
    """
    words = (COARSE, FINE) if back else (NAMES,)
    rows = read_table(source, ("image_path", *BOX_COLUMNS, *words))
    made = (to_names if back else to_words)(rows, vocabulary)
    if not made.rows:
        raise ValueError(f"{source}: nothing is left of {len(rows)} rows; {made.problems[0]}")
    with target.open("w", newline="", encoding="utf-8") as file:  # a mark would break training
        writer = csv.DictWriter(file, list(made.rows[0]))
        writer.writeheader()
        writer.writerows(made.rows)
    return made.problems


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    parser = argparse.ArgumentParser("python -m medvlp.data.lesion_tags")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("source", type=Path)
    add("target", type=Path)
    add("--vocabulary", required=True, help="file of places, or the name of a shipped one")
    add("--back", action="store_true", help="from words to names")
    options = parser.parse_args(arguments)
    with one_line_errors():
        from rich.console import Console

        console = Console(highlight=False, markup=False, soft_wrap=True)
        vocabulary = PlaceVocabulary.load(options.vocabulary)
        problems = convert(options.source, options.target, vocabulary, back=options.back)
        for problem in problems:
            console.print(problem)
        console.print(f"{options.target} is written; left out: {len(problems)}")


if __name__ == "__main__":
    main()
