"""Reports of a data set, wherever they lie: a table, a prepared data set, a model's answers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.data.ct_rate_tree import VOLUME_NAME
from medvlp.data.decomposed_report import DecomposedReport
from medvlp.data.organ_captions import sort_out
from medvlp.data.tables import column_position, is_empty, read_table

Reports = dict[str, dict[str, str]]
"""Study -> section ("findings", "impression", "report") -> text."""

COLUMNS = {
    "study": ("study", "VolumeName", "study_id", "AccessionNo"),
    "findings": ("findings", "Findings_EN", "Findings"),
    "impression": ("impression", "Impressions_EN", "Impression"),
    "report": ("report", "report_text", "Report"),
}
"""Names by which a table's columns are known, in CT-RATE and elsewhere."""


def table_reports(path: Path, columns: Mapping[str, str | None] | None = None) -> Reports:
    """Read a CSV table of reports; of several rows of a study the first that says something counts.

    A volume of CT-RATE stands for its session: train_1_a_1.nii.gz for train_1_a.

    Args:
        path: Of the table.
        columns: "study", "findings", "impression" or "report" to the column; for those that are
            None or missing see `COLUMNS`.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If a column is missing.
    """
    rows = read_table(path, ())
    header = list(rows[0])
    chosen = {name: _column(path, header, name, (columns or {}).get(name)) for name in COLUMNS}
    study = chosen.pop("study")
    if study is None or not any(chosen.values()):
        lacking = "studies" if study is None else "reports"
        raise ValueError(
            f"{path} has no column of {lacking} that is known; its columns are "
            f"{', '.join(header)}: name them with --study and --findings, --impression or --report"
        )
    reports: Reports = {}
    for row in rows:
        name = row[study].strip()
        if match := VOLUME_NAME.fullmatch(name):
            name = f"{match[1]}_{match[3]}"
        texts = {
            section: row[column].strip()
            for section, column in chosen.items()
            if column is not None and not is_empty(row[column])
        }
        reports[name] = reports.get(name) or texts
    return reports


def prepared_reports(folder: Path) -> Reports:
    """Read the reports of a prepared data set; sections that are split already are left out.

    Raises:
        FileNotFoundError: If nothing is prepared there.
    """
    from medvlp.data.manifest import Manifest

    return {
        study["study_id"]: {name: text for name, text in study["texts"].items() if "/" not in name}
        for study in Manifest(folder)
    }


def read_answers(path: Path) -> tuple[dict[str, DecomposedReport], dict[str, str]]:
    """Read the answers of a language model, one object of JSON to a line.

    Returns:
        Study to what was said of its organs, and the lines that could not be used, with the reason.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no UTF-8 text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no answers at {path}: expected a line of JSON for each study")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error
    answers: dict[str, DecomposedReport] = {}
    refused: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                study, report = _answer(json.loads(line))
                if study in answers:
                    raise ValueError(f"study {study!r} stands on a line before")
                answers[study] = report
            except ValueError as error:
                refused[f"{path.name}, line {number}"] = str(error)
    return answers, refused


def _answer(content: Any) -> tuple[str, DecomposedReport]:
    expected = 'expected {"study": "...", "findings": {organ: text}, "impression": {organ: text}}'
    if not isinstance(content, dict) or not isinstance(content.get("study"), str):
        raise ValueError(f"it names no study; {expected}")
    parts = {name: content.get(name) or {} for name in ("findings", "impression")}
    texts, odd = sort_out(parts)
    if odd or not ("findings" in content or "impression" in content):
        raise ValueError(f"{odd[0] if odd else 'findings'} is no text of an organ; {expected}")
    return content["study"], DecomposedReport(texts["findings"], texts["impression"])


def _column(path: Path, header: list[str], name: str, column: str | None) -> str | None:
    if column is not None:
        return header[column_position(path, header, column)]
    return next((known for known in COLUMNS[name] if known in header), None)
