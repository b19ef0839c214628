r"""Annotations of CT-RATE for training, as HLIP publishes them: session to report strings in JSON.

    python -m medvlp.data.annotations raw --reports train_reports.csv --out raw_annotation.json
    python -m medvlp.data.annotations organ --descriptions desc_info.json \
        --conclusions conc_info.json --volumes dataset/train --out qwen_organ_annotation.json

The layout is that of the published repository (github.com/Zch0414/hlip):
`{"train_1_a": {"recons": ["train_1_a_1.nii.gz", ...], "report": ["...", ...]}}`. Train on such a
file with `data=ct_rate data.source.annotations=FILE`.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medvlp.data.ct_rate_tree import VOLUME_NAME, volume_files
from medvlp.data.tables import is_empty, read_table
from medvlp.user_errors import one_line_errors

Annotation = dict[str, dict[str, list[str]]]
"""Session to its reconstructions ("recons") and the strings of its report ("report")."""

ORGANS = ("lung", "heart", "esophagus", "aorta")
_COLUMNS = ("VolumeName", "Impressions_EN", "Findings_EN")
_REMOVED = "\"'()"
_NOTHING = "No significant abnormalities."


def raw_annotation(
    rows: Iterable[Mapping[str, str | None]], *, compat: Literal["published"] | None = None
) -> Annotation:
    """Make one string of impression and findings for each session, in the order of the rows.

    Args:
        rows: Of CT-RATE's report table: VolumeName, Impressions_EN, Findings_EN. The first row of a
            session gives its report, all of them its reconstructions.
        compat: "published" writes "nan." for a section that is missing, as reading empty cells did.
            By default its sentence is left out; a session without any section has no string.

    Raises:
        ValueError: If a name is not that of a volume of CT-RATE.
    """
    from medvlp.data.texts import ReportText

    report = ReportText(removed=_REMOVED, missing="nan" if compat == "published" else None)
    annotation: Annotation = {}
    for row in rows:
        name = (row["VolumeName"] or "").strip()
        columns = {"impression": row["Impressions_EN"], "findings": row["Findings_EN"]}
        sections = {key: text for key, text in columns.items() if text and not is_empty(text)}
        entry = annotation.setdefault(_session(name), {"recons": [], "report": []})
        if not entry["recons"] and (sections or compat == "published"):
            entry["report"].append(report.fill(sections))
        entry["recons"].append(name)
    return annotation


def organ_annotation(
    descriptions: Mapping[str, Mapping[str, str | None]],
    conclusions: Mapping[str, Mapping[str, str | None]],
    volumes: Iterable[str],
    *,
    organs: Sequence[str] = ORGANS,
) -> Annotation:
    """Make one string per organ for each session, the published `qwen_organ_annotation`.

    An organ of which nothing is said has no significant abnormalities, as published.

    Args:
        descriptions: Session to organ to what the findings say of it (`desc_info.json` of fVLM).
        conclusions: The same of the impression (`conc_info.json`).
        volumes: Names of volumes; sessions and volumes stand in the order of the sorted tree
            patient/session/volume, in which train_10_a comes before train_2_b.
        organs: Which, in this order.

    Raises:
        ValueError: If a name is not that of a volume of CT-RATE.
    """
    annotation: Annotation = {}
    for name in sorted(volumes, key=lambda name: (_patient(name), _session(name), name)):
        session = _session(name)
        if session not in annotation:
            annotation[session] = {"recons": [], "report": []}
            said = conclusions.get(session, {}), descriptions.get(session, {})
            for organ in organs:
                shows, looks = (_stated(of_session.get(organ)) for of_session in said)
                text = f"The {organ} shows: {shows} The {organ} looks like: {looks}"
                annotation[session]["report"].append(
                    text.translate(str.maketrans("", "", _REMOVED))
                )
        annotation[session]["recons"].append(name)
    return annotation


def _stated(text: str | None) -> str:
    from medvlp.data.texts import with_full_stop

    return with_full_stop(text) if text and text.strip() else _NOTHING


def _session(name: str) -> str:
    if not VOLUME_NAME.fullmatch(name):
        raise ValueError(f"volume {name!r}, expected a name of CT-RATE like train_1_a_1.nii.gz")
    return name.split(".")[0].rpartition("_")[0]


def _patient(name: str) -> str:
    return _session(name).rpartition("_")[0]


def _read_by_session(path: Path) -> dict[str, dict[str, str | None]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ValueError(f"{path}: expected {{session: {{organ: text}}}}, as fVLM's desc_info.json")
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.data.annotations", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    kinds = parser.add_subparsers(dest="kind", required=True)
    raw = kinds.add_parser("raw", help="impression and findings as one string")
    raw.add_argument("--reports", type=Path, required=True, help="table of reports (CSV)")
    raw.add_argument("--published", action="store_true", help='a missing section becomes "nan."')
    organ = kinds.add_parser("organ", help="one string for each of " + ", ".join(ORGANS))
    organ.add_argument("--descriptions", type=Path, required=True, help="JSON, see above")
    organ.add_argument("--conclusions", type=Path, required=True, help="JSON, see above")
    organ.add_argument("--volumes", type=Path, required=True, help="folder of the patients")
    for kind in (raw, organ):
        kind.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def _build(arguments: argparse.Namespace) -> Annotation:
    if arguments.kind == "raw":
        compat = "published" if arguments.published else None
        return raw_annotation(read_table(arguments.reports, _COLUMNS), compat=compat)
    said = _read_by_session(arguments.descriptions), _read_by_session(arguments.conclusions)
    annotation = organ_annotation(*said, volume_files(arguments.volumes))
    unknown = (said[0].keys() | said[1].keys()) - annotation.keys()
    if unknown:
        print(f"{len(unknown)} sessions of the JSON files have no volume, e.g. {min(unknown)}")  # noqa: T201
    return annotation


def main(arguments: Sequence[str] | None = None) -> None:
    """Write an annotation file."""
    given = _parser().parse_args(arguments)
    with one_line_errors():
        annotation = _build(given)
        from medvlp.data.cache import write_atomically

        content = json.dumps(annotation, ensure_ascii=False, indent=1)
        write_atomically(given.out, (content + "\n").encode())
        silent = sum(not entry["report"] for entry in annotation.values())
        volumes = sum(len(entry["recons"]) for entry in annotation.values())
        print(  # noqa: T201
            f"{len(annotation)} sessions of {volumes} volumes, {silent} without a report, "
            f"in {given.out}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
