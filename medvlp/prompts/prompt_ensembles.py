"""Ensembles of whole sentences for the classes of several sets, kept as one data file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PromptEnsembles:
    """For each set of classes, the sentences of each class; their embeddings are averaged.

    A file holds `sets`: name -> class -> its sentences. In place of a set's sentences it may give
    `templates`, sentences with "{}", and `names`: class -> name or list of synonyms; the sentences
    of a class are then its names in all templates.

    Attributes:
        name: Of the file.
        sets: Set -> class -> sentences; classes in index order.
    """

    name: str
    sets: dict[str, dict[str, list[str]]]

    @classmethod
    def load(cls, name_or_path: str) -> "PromptEnsembles":
        """Read a shipped file by name, or a JSON or YAML file by path.

        Raises:
            FileNotFoundError: If neither exists.
            ValueError: If the file is of another form.
        """
        shipped = _FOLDER / f"{name_or_path}.json"
        path = shipped if shipped.is_file() else Path(name_or_path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no prompt ensembles {name_or_path!r}; unimed_clip is shipped, or give the path "
                "of a JSON or YAML file"
            )
        text = path.read_text(encoding="utf-8")
        try:
            tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path} is not readable: {error}") from error
        if not isinstance(tree, dict) or not isinstance(tree.get("sets"), dict):
            raise ValueError(f"{path} has no `sets`: name -> class -> sentences")
        sets = {name: _sentences(entry, f"{path}, {name}") for name, entry in tree["sets"].items()}
        return cls(str(tree.get("name", path.stem)), sets)

    @property
    def hash(self) -> str:
        """SHA-256 of the content: equal for files that differ in layout only."""
        text = json.dumps(self.sets, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def texts(
        self, set_name: str, classes: Sequence[str], first: int | None = None
    ) -> list[list[str]]:
        """Return the sentences of each class.

        >>> PromptEnsembles("mine", {"a": {"yes": ["It is.", "So."]}}).texts("a", ["yes"], 1)
        [['It is.']]

        Args:
            set_name: One of `sets`.
            classes: In the order wanted.
            first: Take only so many of each class; None takes all.

        Raises:
            ValueError: If there is no such set, or a class has no sentence.
        """
        if set_name not in self.sets:
            raise ValueError(
                f"no prompt set {set_name!r} in {self.name}; it has {', '.join(self.sets)}"
            )
        known = self.sets[set_name]
        silent = [name for name in classes if not known.get(name)]
        if silent:
            raise ValueError(
                f"prompt set {set_name} of {self.name} has no prompt for the class "
                f"{', '.join(silent)}; write one"
            )
        return [known[name][:first] for name in classes]


def expand(templates: Sequence[str], names: str | Sequence[str]) -> list[str]:
    """Put a name, or each of several synonyms, into every template.

    >>> expand(["a {}.", "one {}."], ["heart", "cor"])
    ['a heart.', 'one heart.', 'a cor.', 'one cor.']
    """
    synonyms = [names] if isinstance(names, str) else names
    return [template.replace("{}", name) for name in synonyms for template in templates]


def _sentences(entry: Any, where: str) -> dict[str, list[str]]:
    if isinstance(entry, Mapping) and set(entry) == {"templates", "names"}:
        return {
            str(name): expand(entry["templates"], names) for name, names in entry["names"].items()
        }
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: expected class -> sentences, or templates and names")
    sets: dict[str, list[str]] = {}
    for name, sentences in entry.items():
        if not isinstance(sentences, list | None) or not all(
            isinstance(sentence, str) for sentence in sentences or ()
        ):
            raise ValueError(f"{where}, class {name}: expected a list of sentences")
        sets[str(name)] = [sentence for sentence in sentences or () if sentence.strip()]
    return sets
