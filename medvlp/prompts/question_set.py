"""Question sets: what a language model is asked, kept as data files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent / "questions"
REPORT = "report"
"""The kind of question whose answer is the report itself."""


@dataclass(frozen=True)
class QuestionSet:
    """Wordings of the questions of one protocol.

    Attributes:
        name: Of the protocol's strings.
        wordings: Kind of question ("report", "location") to sentences, of which training draws
            one; `{abnormality}` is replaced by what is asked after.
        evaluation: Kind to the one sentence that evaluations ask, where there is one.
    """

    name: str
    wordings: dict[str, list[str]]
    evaluation: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, name_or_path: str) -> "QuestionSet":
        """Read a shipped question set by name, or a YAML file by path.

        Raises:
            FileNotFoundError: If neither exists.
            ValueError: If a kind has no sentences.
        """
        shipped = _FOLDER / f"{name_or_path}.yaml"
        path = shipped if shipped.is_file() else Path(name_or_path)
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.yaml")))
            raise FileNotFoundError(
                f"no question set {name_or_path!r}; shipped are {names}, or give the path of a "
                "YAML file"
            )
        return cls.from_dict(
            yaml.safe_load(path.read_text(encoding="utf-8")), source=str(name_or_path)
        )

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], source: str = "question set") -> "QuestionSet":
        """Build from the content of a YAML file; `source` names it in errors.

        Raises:
            ValueError: If a kind has no sentences.
        """
        wordings = {kind: some for kind, some in tree.items() if kind not in ("name", "evaluation")}
        evaluation = dict(tree.get("evaluation") or {})
        for kind, sentences in (wordings | {k: [one] for k, one in evaluation.items()}).items():
            if not (isinstance(sentences, list) and sentences) or not all(
                isinstance(sentence, str) and sentence for sentence in sentences
            ):
                raise ValueError(f"{source}: {kind} is {sentences!r}, expected a list of sentences")
        return cls(str(tree.get("name", source)), wordings, evaluation)
