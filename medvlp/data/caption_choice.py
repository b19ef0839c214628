"""Several captions in one stored text: which of them an image is shown with.

UniMed-CLIP (arXiv 2412.10372) joins the captions of an image with a marker that names their source;
the rules are those of the loader in github.com/mbzuai-oryx/UniMed-CLIP.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import TextSampler, TextUnit
from medvlp.types import TextKind

UNUSED = ("openi_rewrites", "mimic_captions", "retina_sentence")
"""What the published loader never draws."""

_OPENI, _RETINA, _MEDICAT, _MIMIC = "_openi_", "_all_retina_merged_", "_medicat_", "_mimiccxr_"
_NUM_CAPTIONS: dict[str, int | None] = {  # in the order in which markers are looked for
    "_radimagenet_": 10,
    "_chexpert_": 10,
    _OPENI: 1,  # the original; its rewrites follow
    "_chestxray8_": 10,
    _RETINA: 10,  # a sentence-level caption follows
    "_dr_": 15,
    _MEDICAT: None,
    _MIMIC: 10,  # the report follows
}
_NO_REPORT, _NOTHING = "noreportpresent", "nothingpresent"


def caption_candidates(
    field: str, compat: Literal["published"] | None = None, *, also: Sequence[str] = ()
) -> list[str]:
    """List the captions of which a training step sees one, each as often as it is likely.

    Args:
        field: As stored: captions, each followed by the marker of its source, or one caption.
        compat: "published" keeps what the published loader can draw: empty captions and the words
            that stand for a missing report. The default leaves both out.
        also: Of `UNUSED`: what the published loader never draws, see `MultiCaption`.

    >>> caption_candidates("A chest X-ray._openi_An X-ray of a chest._openi_")
    ['A chest X-ray.']
    >>> caption_candidates("A cat._dr_A dog._dr_", compat="published")
    ['A cat.', 'A dog.', '']
    """
    marker, parts = _split(field)
    if compat == "published":
        return _published(marker, parts)
    if marker == _MIMIC:
        report, captions = _spoken(parts[-1:]), _spoken(parts[:-1])[: _NUM_CAPTIONS[marker]]
        if report and "mimic_captions" in also:
            return report * max(len(captions), 1) + captions
        return report or captions
    limit = _NUM_CAPTIONS.get(marker)
    if marker == _OPENI and "openi_rewrites" in also:
        limit = None
    if marker == _RETINA and "retina_sentence" in also:
        limit = None
    return _spoken(parts)[:limit]


def has_caption(field: str) -> bool:
    """Say whether a stored text holds a caption: not if it is empty or only a marker.

    >>> has_caption("A chest X-ray."), has_caption("._chexpert_"), has_caption(" ")
    (True, False, False)
    """
    return bool(caption_candidates(field))


def marker_of(field: str) -> str:
    """Return the marker that joins the captions of a stored text; "" if there is none."""
    return next((marker for marker in _NUM_CAPTIONS if marker in field), "")


def choose_caption(candidates: Sequence[str], generator: random.Random) -> str:
    """Draw a caption; as published, a single one is taken without a draw."""
    return candidates[0] if len(candidates) == 1 else generator.choice(candidates)


class MultiCaption(TextSampler):
    """One caption of an image, drawn anew in every epoch; in an evaluation always the first.

    A text counts as true of every image among whose captions its own sentences are. So for losses
    that look at statements, images with the captions of one label are positives of each other.

    Args:
        compat: "published" draws as the published loader does, empty captions included.
        also: Draw from what the published loader leaves unused: "openi_rewrites", the three
            rewrites beside the original; "mimic_captions", every other time in place of the
            report; "retina_sentence", the sentence-level caption behind the ten others.
    """

    def __init__(
        self, compat: Literal["published"] | None = None, *, also: Sequence[str] = ()
    ) -> None:
        if unknown := sorted(set(also) - set(UNUSED)):
            raise ValueError(
                f"also names {', '.join(unknown)}, expected some of {', '.join(UNUSED)}"
            )
        if compat == "published" and also:
            raise ValueError(
                f"compat is 'published' and also {list(also)}: the published loader never draws "
                "them; leave one of the two out"
            )
        self.compat: Literal["published"] | None = compat
        self.also = tuple(also)

    def __call__(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Draw a caption of all sections together; no text where there is none."""
        candidates = self._candidates(sections)
        if not candidates:
            return []
        return [_unit(choose_caption(candidates, random.Random(int(generator.integers(2**63)))))]

    def evaluation(
        self, sections: Mapping[str, str], generator: np.random.Generator
    ) -> list[TextUnit]:
        """Take the first caption that says anything."""
        return [_unit(caption) for caption in _spoken(self._candidates(sections))[:1]]

    def statements(self, sections: Mapping[str, str]) -> tuple[int, ...]:
        """List what all captions say, also those that are never drawn."""
        return statements_of([c for field in sections.values() for c in _spoken(_split(field)[1])])

    def _candidates(self, sections: Mapping[str, str]) -> list[str]:
        fields = sections.values()
        return [c for f in fields for c in caption_candidates(f, self.compat, also=self.also)]


def _split(field: str) -> tuple[str, list[str]]:
    marker = marker_of(field)
    return marker, field.split(marker) if marker else [field]


def _published(marker: str, parts: list[str]) -> list[str]:
    if marker == _MIMIC and parts[-1] != _NO_REPORT:
        return parts[-1:]
    if marker == _MEDICAT and parts[1] == _NOTHING:
        return parts[:1]
    return parts[: _NUM_CAPTIONS.get(marker)]


def _spoken(parts: Sequence[str]) -> list[str]:
    """Leave out what has no letter or digit, and the words that stand for nothing."""
    stripped = (part.strip() for part in parts)
    return [
        part
        for part in stripped
        if part not in (_NO_REPORT, _NOTHING) and any(map(str.isalnum, part))
    ]


def _unit(caption: str) -> TextUnit:
    return TextUnit(caption, TextKind.REPORT, statements_of([caption]))
