"""What the numbers of a label map mean."""

import json
import re
from pathlib import Path

from medvlp.data.totalsegmentator_classes import class_names, names_in_header

_LINE = re.compile(r"(\d+)[\s,;]+([^\s,;]+)")


def read_label_names(path: Path | None, label_map: Path) -> dict[int, str]:
    """Read the names of labels.

    Args:
        path: JSON {number: name}, also as the only or the first entry of {task: {number: name}} as
            TotalSegmentator lists its classes; or text with a number and a name a line, as atlases
            come with (further columns are left out). None takes the names in the header of
            `label_map`, where TotalSegmentator writes them, or its classes.
        label_map: The file of labels.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read, or holds no names.
    """
    if path is None:
        return names_in_header(label_map) or dict(enumerate(class_names(), 1))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: names of the labels of {label_map}")
    text = path.read_text(encoding="utf-8-sig")
    names = _from_json(text) if path.suffix == ".json" else _from_lines(text)
    if not names:
        raise ValueError(
            f"{path} holds no names of labels: expected JSON {{number: name}}, or a number and a "
            "name a line"
        )
    return names


def _from_json(text: str) -> dict[int, str]:
    try:
        tree = json.loads(text)
    except ValueError:
        return {}
    if isinstance(tree, dict) and tree and all(isinstance(v, dict) for v in tree.values()):
        tree = next(iter(tree.values()))
    if not isinstance(tree, dict):
        return {}
    return {int(key): str(name) for key, name in tree.items() if re.fullmatch(r"\d+", key)}


def _from_lines(text: str) -> dict[int, str]:
    found = (_LINE.match(line.strip()) for line in text.splitlines())
    return {int(match[1]): match[2] for match in found if match}
