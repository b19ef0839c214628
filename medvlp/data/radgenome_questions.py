"""The questions of RadGenome-ChestCT: from rows of its tables to question and answer."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from medvlp.data.ct_rate_tree import VOLUME_NAME
from medvlp.data.records import Question, Skip
from medvlp.data.tables import is_empty, stream_table

Row = Mapping[str, str]

KINDS = ("abnormality", "presence", "location", "size", "disorder", "report")
WORDINGS: dict[str, tuple[str, ...]] = {
    "abnormality": ("What are the abnormalities in the {region}?",),
    "presence": ("Can {abnormality} be identified in the {region}?",),
    "location": ("Where is the {abnormality} located in the image?",),
    "size": ("What is the approximate size of the {abnormality} in the {region}?",),
    "disorder": ("What are the abnormalities in the scan?",),
    "report": ("What does the {region} look like?",),
}
"""The first wording of each kind in the authors' templates; "report" is worded here."""
_TABLES: dict[str, tuple[str, str, str]] = {
    # kind: table, column of the abnormality, column of the answer
    "abnormality": ("vqa_abnormality", "Abnormality", "Abnormality"),
    "presence": ("vqa_presence", "Finding", "Presence"),
    "location": ("vqa_location", "Abnormality", "Anatomy"),
    "size": ("vqa_size", "Abnormality", "Size"),
    "disorder": ("case_disorders", "Disorders", "Disorders"),
}
_WHOLE = "whole scan"
_YES_NO = ("Yes.", "No.")


class QuestionTables:
    """Reads the question tables of one split.

    Args:
        kinds: Which of `KINDS`.
        wordings: Kind to templates.
        finest_places: See `RadGenome`.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        wordings: Mapping[str, Sequence[str]],
        *,
        finest_places: bool,
    ) -> None:
        self.kinds, self.wordings, self.finest_places = tuple(kinds), wordings, finest_places

    def read(
        self,
        folder: Path,
        prefix: str,
        sentences: Mapping[str, Sequence[tuple[str, str]]],
        skips: list[Skip],
    ) -> dict[str, list[Question]]:
        """Make the questions of every volume.

        Args:
            folder: `radgenome_files`.
            prefix: "train" or "validation".
            sentences: Region and sentence of every volume, for the kind "report".
            skips: Gets what is left out.
        """
        questions: dict[str, list[Question]] = {}
        for kind in self.kinds:
            if kind == "report":
                rows = {
                    name: [{"Anatomy": region, "answer": text} for region, text in own]
                    for name, own in sentences.items()
                }
            else:
                rows = _rows(folder / f"{prefix}_{_TABLES[kind][0]}.csv", kind, skips)
            for name, own in rows.items():
                if kind == "location" and self.finest_places:
                    own = _finest(own)
                made = [self._question(kind, name, row) for row in own]
                questions.setdefault(name, []).extend(dict.fromkeys(made))
        return questions

    def _question(self, kind: str, name: str, row: Row) -> Question:
        path = _WHOLE if is_empty(row.get("Anatomy")) else row["Anatomy"].strip()
        abnormality = row.get("abnormality", "")
        templates = self.wordings[kind]
        key = zlib.crc32(f"{name} {kind} {path} {abnormality}".encode())
        place = path.rpartition("/")[2]
        template = templates[key % len(templates)]
        text = template.replace("{abnormality}", abnormality)
        answer = row["answer"].strip()
        if kind == "location":
            answer = place_name(path) if self.finest_places else _capital(path)
        elif kind in ("abnormality", "disorder"):
            answer = f"{_capital(answer)}."
        return Question(
            question=text.replace("{region}", place),
            answer=answer,
            kind=kind,
            choices=_YES_NO if kind == "presence" else (),
            subject=abnormality if text != template else "",  # else it may be the answer
        )


def place_name(path: str) -> str:
    """Name a place by its region and its finest part, as HSENet's answers do.

    >>> place_name("lung/lung/right lung"), place_name("trachea and bronchie/bronchie")
    ('Lung/Right lung', 'Trachea and Bronchie/Bronchie')
    >>> place_name("pleura/pleura")
    'Pleura'
    """
    head, _, rest = path.partition("/")
    part = rest.rpartition("/")[2]
    name = " ".join(word if word == "and" else _capital(word) for word in head.split())
    return name if part in ("", head) else f"{name}/{_capital(part)}"


def _rows(path: Path, kind: str, skips: list[Skip]) -> dict[str, list[Row]]:
    _, abnormality, answer = _TABLES[kind]
    columns = ["Volumename", abnormality, answer]
    rows: dict[str, list[Row]] = {}
    broken: list[str] = []
    for row in stream_table(path, columns, broken=broken):
        name = row["Volumename"].strip()
        if not VOLUME_NAME.fullmatch(name):
            reason = "not a CT-RATE volume name (like train_1_a_1.nii.gz); row ignored"
            skips.append(Skip(name, f"{path.name}: {reason}"))
        elif is_empty(row[abnormality]) or (is_empty(row[answer]) and kind != "location"):
            needed = " or ".join(dict.fromkeys((abnormality, answer)))
            skips.append(Skip(name, f"{path.name}: a row without {needed}"))
        elif kind == "presence" and row[answer].strip() not in _YES_NO:
            reason = f"Presence is {row[answer].strip()!r}, expected Yes. or No.; row ignored"
            skips.append(Skip(name, f"{path.name}: {reason}"))
        else:
            kept = {"Anatomy": row.get("Anatomy", ""), "answer": row[answer]}
            rows.setdefault(name, []).append(kept | {"abnormality": row[abnormality].strip()})
    skips += [Skip(str(path), f"{problem}; row ignored") for problem in broken]
    return rows


def _finest(rows: Sequence[Row]) -> list[Row]:
    """Leave out places that hold another place of the same abnormality, and second paths."""
    paths: dict[str, set[str]] = {}
    for row in rows:
        paths.setdefault(row["abnormality"], set()).add(row["Anatomy"].strip())
    finest: dict[tuple[str, str], Row] = {}  # by abnormality and name of the place
    for row in rows:
        path = row["Anatomy"].strip()
        others = paths[row["abnormality"]]
        if not any(other.startswith(f"{path}/") for other in others):
            finest.setdefault((row["abnormality"], place_name(path)), row)
    return list(finest.values())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
