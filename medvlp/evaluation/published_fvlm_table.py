"""fVLM's published table of scores: one row per volume, one column per finding and prompt pair.

Columns are `file_name`, then `organ_finding_negative_positive`; the cell of an absent organ is
empty. Labels stand in CT-RATE's own table (`VolumeName`). `predictions.csv` of a test here is read
too: it has both.
"""

import csv
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from medvlp.evaluation.score_table import ScoreTable
from medvlp.prompts.prompt_set import PromptSet

_LABEL = " (label)"
_ENDINGS = (".nii.gz", ".nii", ".npz")
_SESSION = re.compile(r"(.+_\d+)_[a-z]+_\d+")  # CT-RATE: patient, session, reconstruction

Row = dict[str, str]


def read_scores(
    scores: str | Path,
    labels: str | Path | None = None,
    *,
    compat: Literal["published"] | None = None,
) -> ScoreTable:
    """Read scores with their labels.

    An empty label or -1 is unknown. The finding is the second word of a column between
    underscores, as published; where no label has that name, the label that the column holds.

    Args:
        scores: Table in the published layout, or `predictions.csv`.
        labels: Table with a column `VolumeName`; may hold more volumes. Not for `predictions.csv`.
        compat: "published" scores an absent organ as probability 0 and a volume as often as the
            table has it. By default an absent organ is NaN, and of a repeated volume the first
            row counts, with a warning.

    Raises:
        ValueError: If a table has no such columns, a cell is no number, or volumes or findings
            have no labels; names the file.
    """
    rows = _rows(scores, ("file_name", "sample_id"))
    if compat != "published":
        rows = _distinct(rows, scores)
    columns, names, known = _labelled(rows, scores, labels)
    values = _numbers(rows, columns, scores)
    if not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
        raise ValueError(f"{scores}: probabilities must lie from 0 to 1; cosines cannot be scored")
    return ScoreTable(
        class_names=names,
        sample_ids=[name for name, _ in rows],
        patient_ids=[row.get("patient_id") or patient_of(name) for name, row in rows],
        scores=np.nan_to_num(values) if compat == "published" else values,
        decisions=values > 0.5,
        labels=known,
        metadata=[{} for _ in rows],
        recipe_hash="",
    )


def write_scores(path: str | Path, table: ScoreTable, columns: Mapping[str, str]) -> None:
    """Write the published layout, sorted by volume; NaN becomes an empty cell.

    Args:
        path: Of the CSV file.
        table: Whose scores are written.
        columns: Finding -> name of its column, see `column_names`.

    Raises:
        ValueError: If a finding is not in the table.
    """
    missing = [name for name in columns if name not in table.class_names]
    if missing:
        raise ValueError(
            f"there are no scores of {', '.join(missing)}; choose the prompt set of the scores"
        )
    scores = table.columns(list(columns)).scores
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *columns.values()])
        for k in np.argsort(table.sample_ids, kind="stable"):
            name = table.sample_ids[k]
            cells = ["" if np.isnan(value) else repr(float(value)) for value in scores[k]]
            writer.writerow([f"{name}.nii.gz", *cells])


def column_names(prompts: PromptSet, template: str = "organ") -> dict[str, str]:
    """Name the column of every finding as published.

    >>> column_names(PromptSet.load("fvlm"))["Lung nodule"]
    'lung_Lung nodule_Not Nodule._Nodule.'
    """
    pairs = zip(prompts.classes, prompts.pairs(template), strict=True)
    return {c.name: "_".join((c.organ, c.name, pair[0][0], pair[1][0])) for c, pair in pairs}


def patient_of(volume: str) -> str:
    """Take the patient out of the name of a CT-RATE volume; any other name is a patient's own.

    >>> patient_of("valid_128_b_2"), patient_of("scan")
    ('valid_128', 'scan')
    """
    match = _SESSION.fullmatch(volume)
    return match[1] if match else volume


def _labelled(
    rows: list[tuple[str, Row]], scores: str | Path, labels: str | Path | None
) -> tuple[list[str], list[str], Int[np.ndarray, "n k"]]:
    """Return the columns of scores, their findings, and the labels of these."""
    first = rows[0][1]
    columns = [name for name in first if name + _LABEL in first]
    if columns and labels is not None:
        raise ValueError(f"{scores} has labels of its own; leave {labels} out")
    if columns:
        return columns, columns, _known(rows, [name + _LABEL for name in columns], scores)
    if labels is None:
        raise ValueError(f"{scores} has no labels; give the table of labels too, with VolumeName")
    truth = dict(_distinct(_rows(labels, ("VolumeName",)), labels))
    _require_volumes(rows, truth, scores, labels)
    names = [_finding(column, next(iter(truth.values())), labels) for column in first]
    if repeated := [name for k, name in enumerate(names) if name in names[:k]]:
        raise ValueError(f"{scores} has several columns of {', '.join(repeated)}; keep one of each")
    return list(first), names, _known([(name, truth[name]) for name, _ in rows], names, labels)


def _known(
    rows: Sequence[tuple[str, Row]], columns: Sequence[str], path: str | Path
) -> Int[np.ndarray, "n k"]:
    known = np.nan_to_num(_numbers(rows, columns, path), nan=-1)
    if not np.isin(known, (-1, 0, 1)).all():
        raise ValueError(f"{path}: labels must be 0, 1, or -1 and empty for unknown")
    return known.astype(np.int64)


def _rows(path: str | Path, keys: Sequence[str]) -> list[tuple[str, Row]]:
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = [_whole(row, f"{path}, line {reader.line_num}") for row in reader]
    key = next((key for key in keys if rows and key in rows[0]), None)
    if key is None:
        raise ValueError(f"{path} has no rows with a column {' or '.join(keys)}; is it that table?")
    return [(_bare(row.pop(key)), row) for row in rows]


def _whole(row: Mapping[str | None, str | None], where: str) -> Row:
    """Refuse a row of a cut file, whose missing cells would pass for absent organs."""
    width = sum(name is not None for name in row)
    if None in row or None in row.values():
        cells = sum(cell is not None for cell in row.values())
        raise ValueError(
            f"{where}: {f'more than {width}' if None in row else cells} cells under {width} "
            "columns; the file is cut or damaged"
        )
    return {str(name): str(cell) for name, cell in row.items()}


def _bare(name: str) -> str:
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending)


def _distinct(rows: list[tuple[str, Row]], path: str | Path) -> list[tuple[str, Row]]:
    first: dict[str, Row] = {}
    for name, row in rows:
        first.setdefault(name, row)
    if len(first) < len(rows):
        warnings.warn(
            f"{path}: {len(rows) - len(first)} of {len(rows)} rows repeat a volume and were left "
            "out",
            stacklevel=3,
        )
    return list(first.items())


def _require_volumes(
    rows: Sequence[tuple[str, Row]],
    truth: Mapping[str, Row],
    scores: str | Path,
    labels: str | Path,
) -> None:
    missing = sorted({name for name, _ in rows} - set(truth))
    if missing:
        raise ValueError(
            f"{labels} has no labels of {len(missing)} of {len(rows)} volumes of {scores}, first "
            f"{missing[0]}; give the labels of the split that was scored"
        )


def _finding(column: str, labels: Mapping[str, str], path: str | Path) -> str:
    parts = column.split("_")
    if len(parts) > 3 and parts[1] in labels:
        return parts[1]
    held = [name for name in labels if f"_{name}_" in column]  # an organ with underscores
    if not held:
        raise ValueError(
            f"column {column!r} is not organ_finding_negative_positive of a finding that {path} "
            f"has; it has {', '.join(labels)}"
        )
    return max(held, key=len)


def _numbers(
    rows: Sequence[tuple[str, Row]], columns: Sequence[str], path: str | Path
) -> np.ndarray:
    return np.array(
        [
            [_number(row[column], f"{path}, {name}, {column}") for column in columns]
            for name, row in rows
        ]
    )


def _number(cell: str, where: str) -> float:
    try:
        return float(cell) if cell.strip() else float("nan")
    except ValueError:
        raise ValueError(f"{where}: {cell!r} is no number; correct the file") from None
