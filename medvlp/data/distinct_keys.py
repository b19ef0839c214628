"""JSON and YAML files of which every word counts: a key that is repeated is refused."""

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file by its suffix: YAML (.yaml, .yml), else JSON.

    Raises:
        ValueError: If it cannot be read, repeats a key or holds no mapping with entries.
    """
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    content = _yaml(path, text) if is_yaml else _json(path, text)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no {'mapping' if is_yaml else 'JSON object'} with entries")
    return content


def check_unique(path: Path, names: Sequence[str], what: str) -> None:
    """Refuse a name that stands in a file more than once.

    Raises:
        ValueError: With the file and the name.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path} has the {what} {name!r} more than once")
        seen.add(name)


def _json(path: Path, text: str) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        check_unique(path, [key for key, _ in pairs], "key")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error


def _yaml(path: Path, text: str) -> Any:
    class Distinct(yaml.SafeLoader):
        """Refuses a key that is repeated, which YAML would pass over."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            check_unique(path, [str(key) for key in keys], "key")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Distinct)  # a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error
