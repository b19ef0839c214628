r"""Split reports by organ: desc_info.json and conc_info.json in fVLM's layout.

    python -m medvlp.data.report_decomposition build --table reports.csv --out FOLDER
    python -m medvlp.data.report_decomposition build --prepared CACHE/ct_rate/HASH --out FOLDER
    python -m medvlp.data.report_decomposition build --answers answers.jsonl --out FOLDER

Rules do it (`RuleBasedDecomposer`), or any function of yours, `--decomposer my_module.split`, from
{"findings": text, "impression": text} to a `DecomposedReport`: that is where a language model goes.
Answers of one that were collected elsewhere are lines of JSON:
{"study": "train_1_a", "findings": {"lung": "..."}, "impression": {"lung": "..."}}, where an organ
with an impression is abnormal and one without is normal. decomposition.json, beside the two files,
says what was not understood. Train with data.source.descriptions and data.source.conclusions.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlp.data.decomposed_report import DecomposedReport, Decomposer
from medvlp.data.report_decomposer import RuleBasedDecomposer
from medvlp.data.report_tables import COLUMNS, prepared_reports, read_answers, table_reports
from medvlp.user_errors import one_line_errors

DESCRIPTIONS, CONCLUSIONS, ACCOUNT = "desc_info.json", "conc_info.json", "decomposition.json"
_MOST_COMMON = 200


@dataclass
class Decomposition:
    """The reports of a data set, split by organ.

    Attributes:
        descriptions: Study to organ to what the findings say.
        conclusions: Study to organ to what the impression says.
        empty: Studies without a report.
        failed: Study to why its report could not be split.
        unassigned: Clauses that are about no organ, and how often they occur.
        contradictions: Study to the organs about which its report contradicts itself.
        num_clauses: Of all reports; 0 if the decomposer does not tell.
    """

    descriptions: dict[str, dict[str, str]] = field(default_factory=dict)
    conclusions: dict[str, dict[str, str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unassigned: Counter[str] = field(default_factory=Counter)
    contradictions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    num_clauses: int = 0

    def add(self, study: str, report: DecomposedReport) -> None:
        """Take in one report; an empty text is none."""
        self.descriptions[study] = {o: t for o, t in report.descriptions.items() if t.strip()}
        self.conclusions[study] = {o: t for o, t in report.conclusions.items() if t.strip()}
        self.unassigned.update(report.unassigned)
        self.num_clauses += report.num_clauses
        if report.contradictions:
            self.contradictions[study] = report.contradictions

    def lines(self) -> list[str]:
        """Say what was done, for the terminal."""
        lines = [f"{len(self.descriptions)} reports split, {len(self.empty)} empty"]
        if self.failed:
            study, reason = next(iter(self.failed.items()))
            lines.append(
                f"{len(self.failed)} could not be split and were left out: {study}: {reason}"
            )
        if self.num_clauses:
            number = self.unassigned.total()
            share = 1 - number / self.num_clauses
            lines.append(
                f"{share:.1%} of {self.num_clauses} clauses are about an organ, {number} about none"
            )
        if self.contradictions:
            counts = Counter(organ for organs in self.contradictions.values() for organ in organs)
            told = ", ".join(f"{organ} {count}" for organ, count in counts.most_common())
            lines.append(
                f"{len(self.contradictions)} reports contradict themselves and count as abnormal "
                f"there: {told}"
            )
        return lines

    def organs(self) -> list[tuple[str, int, int]]:
        """List organs with the number of studies that name them and that find them abnormal."""
        abnormal = Counter(organ for texts in self.conclusions.values() for organ in texts)
        both = zip(self.descriptions.values(), self.conclusions.values(), strict=True)
        named = Counter(organ for texts in both for organ in {**texts[0], **texts[1]})
        return [(organ, count, abnormal[organ]) for organ, count in named.most_common()]


def decompose(
    reports: Mapping[str, Mapping[str, str]],
    decomposer: Decomposer,
    on_report: Callable[[int], None] | None = None,
) -> Decomposition:
    """Split all reports; one that fails is left out and told of.

    Args:
        reports: Study to section to text.
        decomposer: See `medvlp.data.decomposed_report`.
        on_report: Called after each with the number of all.
    """
    whole = Decomposition()
    for study, sections in reports.items():
        if not any(text.strip() for text in sections.values()):
            whole.empty.append(study)
        else:
            try:
                whole.add(study, _checked(decomposer(sections)))
            except Exception as error:  # a language model's odd answer must not end the run
                whole.failed[study] = " ".join(str(error).split()) or repr(error)
        if on_report is not None:
            on_report(len(reports))
    return whole


def write(whole: Decomposition, folder: Path) -> None:
    """Write both files and the account of what was not understood."""
    from medvlp.data.cache import write_atomically

    account = {
        "empty": whole.empty,
        "failed": whole.failed,
        "contradictions": whole.contradictions,
        "num_clauses": whole.num_clauses,
        "num_unassigned": whole.unassigned.total(),
        "unassigned": dict(whole.unassigned.most_common(_MOST_COMMON)),
    }
    trees = {DESCRIPTIONS: whole.descriptions, CONCLUSIONS: whole.conclusions, ACCOUNT: account}
    for name, tree in trees.items():
        content = json.dumps(tree, ensure_ascii=False, indent=1)
        write_atomically(folder / name, (content + "\n").encode())


def _require_free(folder: Path) -> None:
    """Refuse a folder with files of that name from elsewhere, such as the published ones."""
    foreign = [name for name in (DESCRIPTIONS, CONCLUSIONS) if (folder / name).exists()]
    if foreign and not (folder / ACCOUNT).exists():
        raise FileExistsError(
            f"{folder} holds {' and '.join(foreign)}, not written by this command; choose another "
            "folder with --out"
        )


def _checked(report: Any) -> DecomposedReport:
    if isinstance(report, DecomposedReport):
        return report
    raise ValueError(
        f"the decomposer returned a {type(report).__name__}, expected a "
        "medvlp.data.decomposed_report.DecomposedReport"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.data.report_decomposition")
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    build = parser.add_subparsers(required=True).add_parser("build", help="write the two files")
    given = build.add_mutually_exclusive_group(required=True)
    given.add_argument("--table", type=Path, help="CSV with a report in each row")
    given.add_argument("--prepared", type=Path, help="folder of a prepared data set")
    given.add_argument("--answers", type=Path, help="lines of JSON: split already")
    for name, known in COLUMNS.items():
        text = f"column of --table; by default one of {', '.join(known)}"
        build.add_argument(f"--{name}", metavar="COLUMN", help=text)
    build.add_argument("--organs", nargs="+", help="default: all of the table of terms")
    build.add_argument("--terms", help="table of terms of your own (YAML)")
    text = "where a finding makes an organ abnormal; fVLM: impression"
    build.add_argument("--abnormal", choices=("report", "impression"), default="report", help=text)
    build.add_argument("--decomposer", help="a function of yours, e.g. my_module.split")
    build.add_argument("--out", type=Path, required=True, help="folder to write to")
    return parser


def _build(given: argparse.Namespace, on_report: Callable[[int], None]) -> Decomposition:
    if given.answers:
        answers, refused = read_answers(given.answers)
        whole = Decomposition(failed=refused)
        for study, report in answers.items():
            whole.add(study, report)
            on_report(len(answers))
        return whole
    if given.prepared:
        reports = prepared_reports(given.prepared)
    else:
        reports = table_reports(given.table, {name: getattr(given, name) for name in COLUMNS})
    return decompose(reports, _decomposer(given), on_report)


def _decomposer(given: argparse.Namespace) -> Decomposer:
    if given.decomposer:
        from medvlp.config import locate

        return locate(given.decomposer)
    return RuleBasedDecomposer(given.organs, terms=given.terms, abnormal=given.abnormal)


def main(arguments: Sequence[str] | None = None) -> None:
    """Split reports and say what became of them."""
    given = _parser().parse_args(arguments)
    with one_line_errors():
        from rich.console import Console
        from rich.table import Table

        from medvlp.data.progress import RateBar

        _require_free(given.out)
        with RateBar("splitting reports", unit="reports") as bar:
            whole = _build(given, bar.advance)
        if not whole.descriptions:
            raise ValueError("; ".join(["no report was split", *whole.lines()]))
        write(whole, given.out)
        console = Console()
        table = Table("organ", "studies that name it", "abnormal")
        for organ, named, abnormal in whole.organs():
            table.add_row(organ, str(named), str(abnormal))
        console.print(table)
        for line in [*whole.lines(), f"everything lies in {given.out}"]:
            console.print(line, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main(sys.argv[1:])
