"""What a model says of some images: a table of images and texts, as text, JSON and picture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from medvlp.evaluation.image_text_scores import Scoring

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
SHOWN = 24  # images that a picture has room for
_BARS = 8


@dataclass(frozen=True)
class ImageScores:
    """Scores of images over texts.

    Attributes:
        images: Paths of the images that were read.
        texts: As they were asked; names, where each stands for several sentences.
        scores: Probabilities, or cosines if so asked.
        scoring: How they were made.
        unreadable: Path of an image to the reason why it has no scores.
        embeddings: Of the images, unit length.
        pictures: What the network saw of the first images.
        facts: Of the checkpoint and its recipe, in JSON types.
    """

    images: list[str]
    texts: list[str]
    scores: Float[np.ndarray, "b k"]
    scoring: Scoring
    unreadable: Mapping[str, str]
    embeddings: Float[np.ndarray, "b e"]
    pictures: UInt8[np.ndarray, "n h w 3"]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> "pd.DataFrame":
        """One row per image, one column per text."""
        import pandas as pd

        index = pd.Index(self.images, name="image")
        return pd.DataFrame(self.scores, index=index, columns=pd.Index(self.texts))

    @property
    def best(self) -> dict[str, str]:
        """The text with the highest score of each image; the first of equal ones."""
        choice = self.scores.argmax(axis=1)
        return {image: self.texts[k] for image, k in zip(self.images, choice, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but embeddings and pictures, in JSON types."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.facts,
            "scoring": self.scoring,
            "kind": "similarity" if self.scoring == "cosine" else "probability",
            "texts": self.texts,
            "images": [
                {"image": image, "best": best, "scores": list(map(float, row))}
                for (image, best), row in zip(self.best.items(), self.scores, strict=True)
            ],
            "unreadable": [
                {"image": name, "reason": reason} for name, reason in self.unreadable.items()
            ],
        }

    def to_json(self, path: str | Path) -> Path:
        """Write the file and return its path; folders are made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def plot(self, path: str | Path) -> Path:
        """Draw the first images, as the network saw them, beside bars of their highest scores."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        count, bars = len(self.pictures), min(_BARS, len(self.texts))
        figure = Figure(figsize=(9, count * (0.6 + 0.24 * max(bars, 4))), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(count, 2, squeeze=False, width_ratios=(1, 3))
        for row, (left, right) in enumerate(axes):
            left.imshow(self.pictures[row])
            left.set_axis_off()
            left.set_title(_short(Path(self.images[row]).name, 32), fontsize=7)
            self._draw_bars(right, self.scores[row], bars)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
        return path

    def _draw_bars(self, axes: Any, scores: Float[np.ndarray, " k"], bars: int) -> None:
        order = np.argsort(-scores, kind="stable")[:bars]
        axes.barh(range(bars), scores[order], color=["#1f6f8b"] + ["#bbbbbb"] * (bars - 1))
        labels = [f"{_short(self.texts[k], 60)}  {scores[k]:.3f}" for k in order]
        axes.set_yticks(range(bars), labels, fontsize=7)
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
        if self.scoring != "cosine":
            axes.set_xlim(0, 1)

    def __repr__(self) -> str:
        """Show the table, and how many images could not be read."""
        left = f"\n{len(self.unreadable)} images could not be read" if self.unreadable else ""
        return self.table.to_string(float_format=lambda value: f"{value:.4f}") + left

    def _repr_html_(self) -> str:
        left = f"<p>{len(self.unreadable)} images could not be read</p>" if self.unreadable else ""
        return self.table.to_html(float_format=lambda value: f"{value:.4f}") + left


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
