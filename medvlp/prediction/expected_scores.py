"""Scores that were published for some images, to compare one's own with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from medvlp.evaluation.image_text_scores import Scoring
from medvlp.prediction.image_scores import ImageScores

_KEYS = {"scoring", "tolerance", "prompts", "images"}


@dataclass(frozen=True)
class ExpectedScores:
    """What must come out.

    Attributes:
        path: Of the file that says so.
        scoring: By which it came out.
        tolerance: Largest absolute difference.
        prompts: In the order of the scores.
        images: Name of a file to one score for each prompt.
    """

    path: Path
    scoring: Scoring
    tolerance: float
    prompts: list[str]
    images: dict[str, list[float]]

    @classmethod
    def load(cls, path: Path) -> "ExpectedScores":
        """Read a YAML file with scoring, tolerance, prompts and images.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it is not of this form.
        """
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict) or set(tree) != _KEYS:
            raise ValueError(f"{path}: expected the keys {', '.join(sorted(_KEYS))}")
        wrong = [name for name, row in tree["images"].items() if len(row) != len(tree["prompts"])]
        if wrong:
            raise ValueError(f"{path}: not one score for each prompt: {', '.join(wrong)}")
        return cls(path=path, **tree)

    def require(self, scores: ImageScores) -> str:
        """Compare; files are told by their names.

        Returns:
            How close they are, in words.

        Raises:
            ValueError: If an image is missing, or a score is further off than the tolerance.
        """
        rows = dict(zip(map(_name, scores.images), scores.scores, strict=True))
        missing = [name for name in self.images if name not in rows]
        if missing:
            raise ValueError(
                f"{self.path} has scores of {', '.join(missing)}, which did not come or could not "
                "be read; give the folder of these images"
            )
        off = {name: float(np.abs(rows[name] - row).max()) for name, row in self.images.items()}
        summary = ", ".join(f"{name} {value:.1e}" for name, value in off.items())
        if not all(value <= self.tolerance for value in off.values()):  # nor where one is NaN
            raise ValueError(
                f"the scores differ from {self.path} by more than {self.tolerance:g}: {summary}"
            )
        return f"equal to {self.path} within {self.tolerance:g}; largest differences: {summary}"


def _name(path: str) -> str:
    return Path(path).name
