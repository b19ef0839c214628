"""One caption for each organ of a study, from a report that was split by organ."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medvlp.data.decomposed_report import OrganTexts

_REMOVED = str.maketrans("", "", "\"'()")


@dataclass(frozen=True)
class OrganCaption:
    """What is said of one organ.

    Attributes:
        text: The whole caption, by which the loss tells equal captions.
        abnormal: Whether it does not begin with the sentence of a normal organ.
        encoder_text: What the text tower reads: that sentence is left out where more follows it.
    """

    text: str
    abnormal: bool
    encoder_text: str


def normal_sentence(organ: str) -> str:
    """Return what stands for an organ that the impression does not name.

    >>> normal_sentence("lung")
    'lung shows no significant abnormalities.'
    """
    return f"{organ} shows no significant abnormalities."


def organ_caption(
    organ: str,
    description: str | None,
    conclusion: str | None,
    *,
    compat: Literal["published"] | None = None,
) -> OrganCaption:
    r"""Join the conclusion about an organ, or the sentence of a normal one, and its description.

    Each gets a final full stop if it has none; quotes and parentheses are taken out.

    Args:
        organ: Its name.
        description: From the findings; None if there is none.
        conclusion: From the impression; None if there is none.
        compat: "published" keeps what the published loader does: nothing stands between the two
            parts, and an empty text is a lone full stop, so that an organ with an empty conclusion
            is abnormal. By default an empty text is no text.

    Reference: fVLM, ICLR 2025 (arXiv 2501.14548), Sec. 3, and its published data set class.

    >>> organ_caption("aorta", "Calcific plaques", "").text
    'aorta shows no significant abnormalities. Calcific plaques.'
    >>> organ_caption("aorta", "Calcific plaques", "", compat="published").text
    '.Calcific plaques.'
    """
    normal = normal_sentence(organ)
    parts = [conclusion, description]
    if compat is None:
        parts = [part.strip() if part and part.strip(" \t\n.") else None for part in parts]
    first, second = (None if part is None else _with_full_stop(part) for part in parts)
    joint = "" if compat else " "
    whole = joint.join(part for part in (first or normal, second) if part is not None)
    text = whole.translate(_REMOVED)
    encoder_text = text
    if text.startswith(normal) and text != normal:
        encoder_text = text.replace(normal, "")
        if compat is None:
            encoder_text = " ".join(encoder_text.split()) or normal
    return OrganCaption(text, not text.startswith(normal), encoder_text)


class OrganCaptions:
    """The captions of a data set's studies, from the two files of its decomposed reports.

    Args:
        descriptions: JSON file of the findings, study -> organ -> text (`desc_info.json`).
        conclusions: The same of the impressions (`conc_info.json`).
        organs: Wanted, in this order; others in the files are left out.
        compat: See `organ_caption`. "published" also takes a study that is in neither file for
            one whose organs are all normal.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one is not such a JSON file, or holds none of the organs.
    """

    def __init__(
        self,
        descriptions: str | Path,
        conclusions: str | Path,
        *,
        organs: Sequence[str],
        compat: Literal["published"] | None = None,
    ) -> None:
        self.organs = tuple(organs)
        self.compat: Literal["published"] | None = compat
        self._files = (str(descriptions), str(conclusions))
        self._descriptions = read_organ_texts(descriptions)
        self._conclusions = read_organ_texts(conclusions)
        both = (*self._descriptions.values(), *self._conclusions.values())
        named = {organ for texts in both for organ in texts}
        if named and not named & set(self.organs):
            raise ValueError(
                f"{descriptions} and {conclusions} have none of the organs "
                f"{', '.join(self.organs)}; they have {', '.join(sorted(named))}. Name organs as "
                "the files do"
            )

    @property
    def studies(self) -> list[str]:
        """Names of the studies that are in at least one file, sorted."""
        return sorted({*self._descriptions, *self._conclusions})

    def of(self, study: str) -> dict[str, OrganCaption]:
        """Make the captions of all organs of a study.

        An organ that the report does not name is taken for normal.

        Raises:
            ValueError: If neither file has the study; not with `compat="published"`.
        """
        known = study in self._descriptions or study in self._conclusions
        if not known and self.compat is None:
            raise ValueError(
                f"study {study} is in neither {self._files[0]} nor {self._files[1]}: nothing is "
                "known of its organs; decompose its report, or leave the study out"
            )
        description, conclusion = (
            table.get(study, {}) for table in (self._descriptions, self._conclusions)
        )
        return {
            organ: organ_caption(
                organ, description.get(organ), conclusion.get(organ), compat=self.compat
            )
            for organ in self.organs
        }


def read_organ_texts(path: str | Path) -> dict[str, OrganTexts]:
    """Read study -> organ -> text; entries of another kind are left out with one warning.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a JSON object of that form.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no decomposed reports at {path}: expected JSON, study -> organ -> text"
        ) from None
    except ValueError as error:  # of the encoding too
        raise ValueError(f"{path} is no JSON file of decomposed reports: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds a {type(tree).__name__}, expected study -> organ -> text")
    kept, dropped = sort_out(tree)
    if tree and not any(isinstance(texts, dict) for texts in tree.values()):
        raise ValueError(f"{path}: no study has organs; expected study -> organ -> text")
    if dropped:
        warnings.warn(
            f"{path}: {len(dropped)} entries are no text and were left out, first {dropped[0]}; "
            "write a string for each organ",
            stacklevel=2,
        )
    return kept


def sort_out(tree: Mapping[str, Any]) -> tuple[dict[str, OrganTexts], list[str]]:
    """Return what is a mapping from organ to text, and the names of what is not."""
    kept: dict[str, OrganTexts] = {}
    dropped: list[str] = []
    for study, texts in tree.items():
        if not isinstance(texts, dict):
            dropped.append(study)
            continue
        kept[study] = {organ: text for organ, text in texts.items() if isinstance(text, str)}
        dropped += [f"{study}: {organ}" for organ in texts if organ not in kept[study]]
    return kept, dropped


def _with_full_stop(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
