"""The vocabulary of places: body region > coarse place > fine word > final name, and its texts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.tables import nearest


class Place(NamedTuple):
    """Where a final name stands in the tree.

    Attributes:
        body: Region of the body.
        coarse: Coarse place within it.
        fine: Fine word within that.
        name: The final name.
        gender: "F" or "M" where only they have it.
        max_size_mm: Larger lesions cannot be there; 0 if not stated.
    """

    body: str
    coarse: str
    fine: str
    name: str
    gender: str = ""
    max_size_mm: float = 0.0


class PlaceVocabulary:
    """The tree of HCL-AL (Gao et al., IEEE TMI 2025) or one of your own, and its descriptions.

    Args:
        places: In the order of the file, which decides ties and samplers.
        descriptions: Word (coarse or fine) to the text that a text tower sees.
    """

    def __init__(self, places: Sequence[Place], descriptions: Mapping[str, str]) -> None:
        self.places = tuple(places)
        self.descriptions = dict(descriptions)
        self._by_name = {place.name: place for place in self.places}

    @classmethod
    def read(cls, vocabulary: Path, descriptions: Path | None = None) -> "PlaceVocabulary":
        """Read and check both JSON files.

        Args:
            vocabulary: {body region: {coarse place: {fine word: final name}}}; in place of a name
                may stand {"name": ..., "gender": "F" or "M", "max_size": mm}.
            descriptions: {word: description}; None leaves texts out.

        Raises:
            FileNotFoundError: If one is not there, with where to get it.
            ValueError: If a name or description is not unique, a key is repeated, a word has no
                description, a name holds a comma, or places contain each other in a circle.
        """
        places = _places(vocabulary, _load(vocabulary))
        _check_unique(vocabulary, [place.name for place in places], "final name")
        _check_circles(vocabulary, places)
        texts: dict[str, str] = {}
        if descriptions is not None:
            texts = _load(descriptions)
            _check_texts(descriptions, texts, places)
        return cls(places, texts)

    def locate(self, name: str) -> Place:
        """Find a final name.

        Raises:
            ValueError: If there is none, with the name that is spelt most like it.
        """
        if name not in self._by_name:
            advice = nearest(name, self._by_name)
            raise ValueError(f"{name!r} is not a place of the vocabulary{advice}")
        return self._by_name[name]

    @property
    def coarse_words(self) -> tuple[str, ...]:
        """All coarse places, in the order of the file."""
        return tuple(dict.fromkeys(place.coarse for place in self.places))

    def fine_words(self, coarse: str) -> tuple[str, ...]:
        """Return the fine words of a coarse place, in the order of the file."""
        return tuple(place.fine for place in self.places if place.coarse == coarse)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: HCL-AL's two files are in md_clip3d/library of "
            "github.com/HerrBaum-YR/HCL-AL (no licence stated: ask the authors before you pass "
            "them on); set vocabulary=... and descriptions=..."
        )

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_unique(path, [key for key, _ in pairs], "key")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=distinct)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no JSON object with entries")
    return content


def _places(path: Path, tree: dict[str, Any]) -> list[Place]:
    places: list[Place] = []
    for body, regions in tree.items():
        for coarse, leaves in _branches(path, body, regions):
            places += [
                _place(path, (body, coarse, fine), leaf)
                for fine, leaf in _branches(path, coarse, leaves)
            ]
    repeated: dict[str, str] = {}
    for place in places:
        if repeated.setdefault(place.coarse, place.body) != place.body:
            raise ValueError(
                f"{path}: the coarse place {place.coarse!r} stands under both "
                f"{repeated[place.coarse]!r} and {place.body!r}"
            )
    return places


def _branches(path: Path, name: str, branch: Any) -> list[tuple[str, Any]]:
    if not isinstance(branch, dict) or not branch:
        raise ValueError(
            f"{path}: {name!r} holds {branch!r}, expected {{body region: {{coarse place: "
            "{fine word: final name}}}"
        )
    return list(branch.items())


def _place(path: Path, words: tuple[str, str, str], leaf: Any) -> Place:
    facts = {"name": leaf} if isinstance(leaf, str) else leaf
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        raise ValueError(
            f"{path}: {' > '.join(words)} is {leaf!r}, expected a name, or an object with 'name'"
        )
    gender, size = facts.get("gender") or "", facts.get("max_size") or 0
    if gender not in ("", "F", "M") or not isinstance(size, int | float) or size < 0:
        raise ValueError(
            f"{path}: {' > '.join(words)} has gender {gender!r} and max_size {size!r}, expected "
            "F or M and millimetres"
        )
    for word in (*words, facts["name"]):
        if "," in word or word != word.strip() or not word:
            raise ValueError(
                f"{path}: {word!r} is empty, has a comma or blanks around it; tables join names "
                "with commas"
            )
    return Place(*words, facts["name"], gender, float(size))


def _check_unique(path: Path, names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path} has the {what} {name!r} more than once")
        seen.add(name)


def _check_circles(path: Path, places: Sequence[Place]) -> None:
    """Refuse coarse places that are, over their fine words, part of themselves."""
    coarse = {place.coarse for place in places}
    parts: dict[str, list[str]] = {}
    for place in places:
        # a place may be its own only part: "Skull" > "Skull"
        if place.fine in coarse and place.fine != place.coarse:
            parts.setdefault(place.coarse, []).append(place.fine)
    for start in parts:
        todo, seen = list(parts[start]), set()
        while todo:
            word = todo.pop()
            if word == start:
                raise ValueError(f"{path}: {start!r} is part of itself, over its fine words")
            if word not in seen:
                seen.add(word)
                todo += parts.get(word, [])


def _check_texts(path: Path, texts: dict[str, Any], places: Sequence[Place]) -> None:
    words = dict.fromkeys(word for place in places for word in (place.coarse, place.fine))
    empty = [word for word in words if not isinstance(texts.get(word), str) or not texts[word]]
    if empty:
        raise ValueError(
            f"{path} lacks the description of {len(empty)} of {len(words)} words: "
            f"{', '.join(map(repr, empty[:5]))}{', ...' if len(empty) > 5 else ''}"
        )
    owners: dict[str, str] = {}
    for word, text in texts.items():
        other = owners.setdefault(text, word)
        if other != word:
            raise ValueError(f"{path}: {other!r} and {word!r} have the same description {text!r}")
