r"""Captions for labels: a table of sentences turns a label CSV into an annotation file.

    python -m medvlp.data.caption_table start labels.csv --labels finding --out captions.yaml
    python -m medvlp.data.caption_table build labels.csv --labels finding \
        --table captions.yaml --layout labels --out with_captions.csv

`start` lists the labels; write sentences under each, or let any language model write them. `build`
joins them with the images in a layout that `python -m medvlp.prepare` reads: `data=unimed/chexpert
data.sources.chexpert.annotations=with_captions.csv data.sources.chexpert.images=FOLDER`. The
method is UniMed-CLIP's (arXiv 2412.10372), which published the results but not the program: several
differently worded sentences for each label, 10 as a rule. Nothing here is drawn by chance.
"""

import argparse
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.cache import write_atomically
from medvlp.data.tables import is_empty, nearest, read_table
from medvlp.user_errors import one_line_errors

CaptionTable = Mapping[str, Sequence[str]]
"""Label to sentences, differently worded; labels that occur together are joined by "|"."""

SEPARATOR = "|"
LAYOUTS = ("labels", "mimic", "retina", "openi")
_TRUE = {"1", "1.0", "true", "yes"}
_NAMED = 5
_QUESTION = """\
# Write {number} sentences under each label, differently worded, each complete by itself. A question
# that any language model can be asked: "Write {number} differently worded captions, one sentence
# each, for a {modality} that shows: LABEL. State nothing that the label does not say."
"""


def read_caption_table(path: Path) -> dict[str, list[str]]:
    """Read a table of captions: YAML or JSON `{label: [sentence, ...]}`, or CSV (label, caption).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another form, repeats a label, or holds what is no text.
    """
    if path.suffix.lower() == ".csv":
        table: dict[str, list[str]] = {}
        for row in read_table(path, ("label", "caption")):
            table.setdefault(row["label"].strip(), []).append(row["caption"])
    else:
        table = _read_mapping(path)
    for label, captions in table.items():
        if not isinstance(label, str):
            raise ValueError(f"{path}: label {label!r} is not a text; put it in quotes")
        if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
            raise ValueError(f"{path}: label {label!r} has no list of texts: {captions!r:.60}")
    return {label: [text.strip() for text in table[label] if text.strip()] for label in table}


def captions_of(labels: Sequence[str], table: CaptionTable, *, number: int = 10) -> list[str]:
    """Choose the captions of an image with these labels.

    An entry for all of them together comes first, whatever their order; without one, the i-th
    sentences of each follow one another in the i-th caption.

    >>> captions_of(["Edema", "Effusion"], {"Edema": ["Edema."], "Effusion": ["Fluid."]}, number=1)
    ['Edema. Fluid.']

    Raises:
        ValueError: If a label is not in the table or has fewer captions.
    """
    wanted = set(labels)
    whole = next((key for key in table if table[key] and set(_split(key)) == wanted), None)
    entries = [whole] if whole is not None else list(dict.fromkeys(labels))
    for label in entries:
        if label not in table:
            raise ValueError(f"the label {label!r} has no captions{nearest(label, table)}")
        if len(table[label]) < number:
            raise ValueError(
                f"the label {label!r} has {len(table[label])} captions, {number} are wanted; "
                "write more, or take fewer of all with --number"
            )
    chosen = [table[label][:number] for label in entries]
    if len(chosen) == 1:
        return list(chosen[0])
    return [
        " ".join(f"{sentence.rstrip('.')}." for sentence in sentences)
        for sentences in zip(*chosen, strict=True)
    ]


def labels_of(row: Mapping[str, str], column: str | None, one_hot: Sequence[str] = ()) -> list[str]:
    """List the labels of a row.

    >>> labels_of({"finding": "Edema|Effusion"}, "finding")
    ['Edema', 'Effusion']
    >>> labels_of({"Edema": "0", "Effusion": "1.0"}, None, ["Edema", "Effusion"])
    ['Effusion']

    Args:
        row: Of a label table.
        column: Holds the labels, parted by "|".
        one_hot: Columns that say 1 where their label is there.
    """
    if column is not None:
        return [] if is_empty(row[column]) else _split(row[column])
    return [name for name in one_hot if row[name].strip().lower() in _TRUE]


def annotate(
    rows: Iterable[tuple[str, Sequence[str], str]],
    table: CaptionTable,
    *,
    layout: str = "labels",
    number: int = 10,
) -> list[dict[str, Any]]:
    """Make the rows of an annotation file.

    Args:
        rows: Path of the image, labels, and a text of its own: the report of "mimic", the sentence
            of "retina", the caption of "openi".
        table: Of captions.
        layout: "labels" is that of CheXpert, ChestX-ray8 and RadImageNet.
        number: Captions of each image.

    Raises:
        ValueError: Naming all labels that have no captions or too few.
    """
    made: list[dict[str, Any]] = []
    problems: Counter[str] = Counter()
    known: dict[tuple[str, ...], list[str]] = {}
    for image, labels, own in rows:
        key = tuple(labels)
        try:
            captions = known[key] = known.get(key) or captions_of(labels, table, number=number)
        except ValueError as error:
            problems[str(error)] += 1
            continue
        made.append(_cells(layout, image, list(labels), captions, own))
    if problems:
        told = "; ".join(f"{text} ({n:,} images)" for text, n in problems.most_common(_NAMED))
        more = f"; and {len(problems) - _NAMED} more" * (len(problems) > _NAMED)
        raise ValueError(f"{told}{more}")
    return made


def _cells(
    layout: str, image: str, labels: list[str], captions: list[str], own: str
) -> dict[str, Any]:
    if layout == "retina":
        return {"filename": image, "captions": captions, "sentence_level_captions": own}
    if layout == "openi":
        return {"image_id": image.removesuffix(".png"), "caption": own, "rewrites": captions}
    cells: dict[str, Any] = {"image": [image], "label": labels, "captions": captions}
    return cells | ({"report": own} if layout == "mimic" else {})


def _split(cell: str) -> list[str]:
    return [label.strip() for label in cell.split(SEPARATOR) if label.strip()]


def _read_mapping(path: Path) -> dict[Any, Any]:
    import yaml

    class _Loader(yaml.SafeLoader):
        """Refuses a key that stands twice, of which YAML would take the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if len(set(keys)) < len(keys):
                twice = next(key for key in keys if keys.count(key) > 1)
                raise yaml.YAMLError(f"the label {twice!r} stands twice")
            return super().construct_mapping(node, deep=deep)

    if not path.is_file():
        raise FileNotFoundError(f"the table of captions {path} is not there")
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected {{label: [sentence, ...]}}")
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.data.caption_table", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start", help="list the labels, for sentences to be written under")
    start.add_argument("--modality", default="medical image", help="for the question in the file")
    build = verbs.add_parser("build", help="write the annotation file")
    build.add_argument("--table", type=Path, required=True, help="captions: YAML, JSON or CSV")
    build.add_argument("--layout", choices=LAYOUTS, default="labels", help="default: labels")
    build.add_argument("--image", default="image", help="column of the path (default: image)")
    build.add_argument("--text", help="column of the image's own text: report, sentence, caption")
    build.add_argument("--rewrites", type=Path, help="second file of layout openi (JSON)")
    for verb in (start, build):
        verb.add_argument("labels_file", type=Path, metavar="LABELS", help="table (CSV)")
        verb.add_argument("--labels", help='column of the labels, parted by "|"')
        verb.add_argument("--one-hot", nargs="+", default=[], help="columns that hold 1 or 0")
        verb.add_argument("--otherwise", help="label of images without any, such as 'No finding'")
        verb.add_argument("--number", type=int, default=10, help="captions of each (default: 10)")
        verb.add_argument("--out", type=Path, required=True, help="file to write")
    return parser


def _rows(options: argparse.Namespace) -> list[tuple[str, list[str], str]]:
    if (options.labels is None) == (not options.one_hot):
        raise ValueError("say either --labels COLUMN or --one-hot COLUMN COLUMN ...")
    image, text = (getattr(options, name, None) for name in ("image", "text"))
    columns = [name for name in (image, text, options.labels, *options.one_hot) if name]
    rows = []
    for number, row in enumerate(read_table(options.labels_file, columns), start=2):
        labels = labels_of(row, options.labels, options.one_hot)
        if not labels and options.otherwise is None:
            raise ValueError(
                f"{options.labels_file}, row {number} has no label; name one for such images with "
                "--otherwise 'No finding'"
            )
        own = row[text] if text else ""
        rows.append((row[image] if image else "", labels or [options.otherwise], own))
    return rows


def _start(options: argparse.Namespace) -> str:
    sets = Counter(SEPARATOR.join(labels) for _, labels, _ in _rows(options))
    lines = [
        f"{json.dumps(label, ensure_ascii=False)}: [] # {count:,} images"
        for label, count in sets.most_common()
    ]
    question = _QUESTION.format(number=options.number, modality=options.modality)
    return question + "\n".join(lines) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)  # a list is written as Python text, as published
    return text.getvalue()


def _build(options: argparse.Namespace) -> dict[Path, str]:
    table = read_caption_table(options.table)
    rows = annotate(_rows(options), table, layout=options.layout, number=options.number)
    if options.layout != "openi":
        return {options.out: _csv(rows)}
    if options.rewrites is None or options.text is None:
        raise ValueError("layout openi needs --text COLUMN and --rewrites FILE")
    rewrites = {"refined_captions": [row.pop("rewrites") for row in rows]}
    contents = {options.out: {"annotations": rows}, options.rewrites: rewrites}
    return {path: json.dumps(what, ensure_ascii=False) for path, what in contents.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the files."""
    options = _parser().parse_args(arguments)
    with one_line_errors():
        files = {options.out: _start(options)} if options.verb == "start" else _build(options)
        for path, text in files.items():
            write_atomically(path, text.encode())
    print("written:", *(path.resolve() for path in files))  # noqa: T201


if __name__ == "__main__":
    main()
