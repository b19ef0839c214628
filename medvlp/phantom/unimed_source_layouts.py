"""Annotation files of UniMed's sources, as their publishers lay them out, and what is odd in them.

Layouts: data guide and preparation scripts of github.com/mbzuai-oryx/UniMed-CLIP.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MISSING, PAGE, OUTSIDE = "missing image", "a web page for an image", "a path that leads out"
EMPTY, LIST, NUL = "empty caption", "broken list", "NUL character"
LINE, UNICODE, NUMBER = "broken line", "invalid Unicode", "number for a caption"
CELLS, NO_OWN, AGES = "too many cells", "without its own text", "only ages"
KEPT = (NO_OWN, AGES)
"""What is odd and gives a sample all the same."""


@dataclass(frozen=True)
class SourceRow:
    """One row that is to be written.

    Attributes:
        image: Path below the image folder.
        finding: What it shows.
        captions: Several of a label set, else one.
        own: Report or sentence beside the captions.
        hard_case: What is odd; empty for ordinary rows.
    """

    image: str
    finding: str
    captions: tuple[str, ...]
    own: str
    hard_case: str = ""

    @property
    def stem(self) -> str:
        """Leave out the suffix of the image."""
        return self.image.rpartition(".")[0]

    @property
    def caption(self) -> str:
        """Give the first caption, with what is odd about it."""
        odd = {EMPTY: " ", NUL: f"{self.captions[0]}\0"}
        return odd.get(self.hard_case, self.captions[0])


Files = dict[str, str]
"""Name of an annotation file to its content."""
Layout = Callable[[Sequence[SourceRow]], Files]


def labels(name: str) -> Layout:
    """Write path, labels and captions as lists: CheXpert, ChestX-ray8, RadImageNet."""

    def write(rows: Sequence[SourceRow]) -> Files:
        return {name: _table(("image", "label", "captions"), map(_label_cells, rows))}

    return write


def mimic(rows: Sequence[SourceRow]) -> Files:
    """Write the same with a report."""
    cells = (
        (*_label_cells(row), "" if row.hard_case in (EMPTY, NO_OWN) else row.own) for row in rows
    )
    return {
        "2.0.0/files/mimic_cxr_with_captions_and_reports_only_frontal_view.csv": _table(
            ("image", "label", "captions", "report"), cells
        )
    }


def openi(rows: Sequence[SourceRow]) -> Files:
    """Write captions, and their rewrites in a second file."""
    annotations = [
        {"image_id": row.stem, "caption": None if row.hard_case == EMPTY else row.caption}
        for row in rows
    ]
    rewrites: list[Any] = [list(row.captions[1:]) for row in rows]
    for row, texts in zip(rows, rewrites, strict=True):
        if row.hard_case == NO_OWN:
            texts.clear()
    return {
        "filter_cap.json": _json({"annotations": annotations}),
        "openai_refined_concepts.json": _json({"refined_captions": rewrites}),
    }


def pmc_oa(rows: Sequence[SourceRow]) -> Files:
    """Write JSON lines, with a blank one."""
    lines = [_json({"image": row.image, "caption": _said(row)}) for row in rows]
    for number, row in enumerate(rows):
        if row.hard_case == LINE:
            lines[number] = lines[number][:-9]
    return {"pmc_oa.jsonl": "\n".join([*lines[:1], "", *lines[1:], ""])}


def rocov2(rows: Sequence[SourceRow]) -> Files:
    """Write names without suffix and captions with line breaks."""
    cells = [(row.stem, f" {row.caption}\n") for row in rows]
    extra = [("one", "too many") if row.hard_case == CELLS else () for row in rows]
    joined = (pair + more for pair, more in zip(cells, extra, strict=True))
    return {"train_captions.csv": _table(("ID", "Caption"), joined)}


def quilt(rows: Sequence[SourceRow]) -> Files:
    """Write the lookup table; captions that are empty, NaN in pandas."""
    cells = (
        (number, "" if row.hard_case == EMPTY else row.caption, row.image, "openpath")
        for number, row in enumerate(rows)
    )
    header = ("", "caption", "image_path", "subset")
    return {"quilt_1M_lookup.csv": _table(header, cells)}


def llava_alignment(rows: Sequence[SourceRow]) -> Files:
    """Write conversations of two turns, or one."""
    records = [
        {
            "image": row.image,
            "conversations": [
                {"from": "human", "value": "Describe the image."},
                {"from": "gpt", "value": _said(row)},
            ][: 1 if row.hard_case == EMPTY else 2],
        }
        for row in rows
    ]
    return {"llava_med_alignment_500k_filtered.json": _json(records)}


def llava_instruct(rows: Sequence[SourceRow]) -> Files:
    """Write figure captions and mentions by domain; a bare NaN where there is none."""
    records = [
        {
            "pair_id": row.stem,
            "fig_caption": float("nan") if row.hard_case == EMPTY else _said(row),
            "in_text_mention": None if row.hard_case else [{"tokens": f" {row.own}\n"}],
        }
        for row in rows
    ]
    half = (len(records) + 1) // 2
    domains = {"mri": records[:half], "chest_xray": records[half:]}
    return {"llava_med_instruct_fig_captions.json": _json(domains)}


def retina_tables(rows: Sequence[SourceRow]) -> Files:
    """Write two tables, the later name first, and one that is not part of the set."""
    columns = ("filename", "captions", "sentence_level_captions")
    cells = [
        (row.image, _list_cell(row), "" if row.hard_case == NO_OWN else row.own) for row in rows
    ]
    half = (len(cells) + 1) // 2
    return {
        "11_STARE.csv": _table(columns, cells[half:]),
        "03_IDRID.csv": _table(columns, cells[:half]),
        "07_LAG_revised.csv": _table(columns, cells[:1]),
    }


def retina_keywords(rows: Sequence[SourceRow]) -> Files:
    """Write keywords: an age, the finding between slashes, a list."""

    def cell(row: SourceRow) -> str:
        words = ["65 year old", f"{row.finding}/", "//fundus//image"]
        chosen = {AGES: words[:1], EMPTY: []}.get(row.hard_case, words)
        return repr(chosen)[: -3 if row.hard_case == LIST else None]

    cells = ((row.image, "[]", cell(row)) for row in rows)
    return {"06_DEN.csv": _table(("image", "atributes", "categories"), cells)}


def retina_descriptions(rows: Sequence[SourceRow]) -> Files:
    """Write captions with a blank behind, as they are kept."""
    cells = ((row.image, "" if row.hard_case == EMPTY else f"{row.caption} ") for row in rows)
    return {"39_MM_Retinal_dataset.csv": _table(("image", "caption"), cells)}


def _said(row: SourceRow) -> Any:
    odd = {EMPTY: None, UNICODE: f"{row.caption} \ud83d", NUMBER: 7}
    return odd.get(row.hard_case, f" {row.caption}\n")


def _label_cells(row: SourceRow) -> tuple[str, str, str]:
    return repr([row.image]), repr([row.finding]), _list_cell(row)


def _list_cell(row: SourceRow) -> str:
    texts = [*row.captions[:-1], f"{row.captions[-1]}\0"] if row.hard_case == NUL else row.captions
    odd = {EMPTY: "[]", LIST: repr(list(row.captions))[:-3]}
    return odd.get(row.hard_case, repr(list(texts)))


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _json(content: object) -> str:
    return json.dumps(content)  # in ASCII: a lone surrogate is written as an escape
