"""Files of places: read, and checked for what cannot be right.

Two layouts, JSON or YAML. HCL-AL's own are two files:

    {body region: {coarse place: {fine word: final name}}}      and      {word: description}

A vocabulary of one's own is one file with both, and may say more of a place:

    places:
      Abdomen:                                # body region
        Liver:                                # coarse place: a text of the coarse stage
          Liver S1: Liver S1                  # fine word (a text of the fine stage): final name
          Porta hepatis:
            name: Porta hepatis
            sex: F                            # only they have it: F or M
            max_size: 60                      # mm; larger lesions cannot be there
            synonyms: [Liver hilum]           # also found in annotations
            ids: {FMA: "14509"}               # terms of a standard
    descriptions:
      Liver: in the liver, in the right upper abdomen below the diaphragm
      Liver S1: ...

A fine word may stand under several coarse places (a left and a right one), and has one description.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.tables import nearest

_KEYS = ("name", "sex", "gender", "max_size", "synonyms", "ids")


class Place(NamedTuple):
    """Where a final name stands in the tree.

    Attributes:
        body: Region of the body.
        coarse: Coarse place within it.
        fine: Fine word within that.
        name: The final name.
        gender: "F" or "M" where only they have it.
        max_size_mm: Larger lesions cannot be there; 0 if not stated.
        synonyms: Other names of it.
        ids: Standard to term id.
    """

    body: str
    coarse: str
    fine: str
    name: str
    gender: str = ""
    max_size_mm: float = 0.0
    synonyms: tuple[str, ...] = ()
    ids: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PlaceFile:
    """What files of places say.

    Attributes:
        places: In their order.
        descriptions: Word to text.
    """

    places: list[Place]
    descriptions: dict[str, str] = field(default_factory=dict)


def read_places(vocabulary: Path, descriptions: Path | None = None) -> PlaceFile:
    """Read and check a vocabulary, and its descriptions if they are a file of their own.

    Raises:
        FileNotFoundError: If one is not there, with where to get it.
        ValueError: If it cannot be right: see the checks below.
    """
    tree = _load(vocabulary)
    texts: dict[str, Any] = {}
    source = vocabulary
    if "places" in tree:
        unknown = [key for key in tree if key not in ("places", "descriptions")]
        if unknown or not isinstance(tree["places"], dict):
            raise ValueError(
                f"{vocabulary} has the keys {', '.join(map(str, tree))}: expected 'places', a "
                "tree, and 'descriptions'"
            )
        texts = dict(tree.get("descriptions") or {})
        tree = tree["places"]
    if descriptions is not None:
        texts, source = _load(descriptions), descriptions
    places = _places(vocabulary, tree)
    _check_unique(vocabulary, [place.name for place in places], "final name")
    _check_synonyms(vocabulary, places)
    _check_circles(vocabulary, places)
    if texts:
        _check_texts(source, texts, places)
    return PlaceFile(places, texts)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: HCL-AL's two files are in md_clip3d/library of "
            "github.com/HerrBaum-YR/HCL-AL (no licence stated: ask the authors before you pass "
            "them on); set vocabulary=... and descriptions=..."
        )
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = _yaml(path, text) if is_yaml else _json(path, text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no {'mapping' if is_yaml else 'JSON object'} with entries")
    return content


def _json(path: Path, text: str) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_unique(path, [key for key, _ in pairs], "key")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=distinct)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error


def _yaml(path: Path, text: str) -> Any:
    import yaml

    class Distinct(yaml.SafeLoader):
        """Refuses a key that is repeated, which YAML would pass over."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            _check_unique(path, [str(key) for key in keys], "key")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Distinct)  # a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from error


def _places(path: Path, tree: Mapping[Any, Any]) -> list[Place]:
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


def _branches(path: Path, name: Any, branch: Any) -> list[tuple[Any, Any]]:
    if not isinstance(branch, dict) or not branch:
        raise ValueError(
            f"{path}: {name!r} holds {branch!r}, expected {{body region: {{coarse place: "
            "{fine word: final name}}}"
        )
    return list(branch.items())


def _place(path: Path, words: tuple[Any, Any, Any], leaf: Any) -> Place:
    where = f"{path}: {' > '.join(map(str, words))}"
    facts = {"name": leaf} if isinstance(leaf, str) else leaf
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        raise ValueError(f"{where} is {leaf!r}, expected a name, or an object with 'name'")
    for key in facts:
        if key not in _KEYS:
            raise ValueError(f"{where} has the key {key!r}{nearest(str(key), _KEYS)}")
    sex, size = facts.get("sex") or facts.get("gender") or "", facts.get("max_size") or 0
    if sex not in ("", "F", "M") or not isinstance(size, int | float) or size < 0:
        raise ValueError(
            f"{where} has gender {sex!r} and max_size {size!r}, expected F or M and millimetres"
        )
    synonyms, ids = facts.get("synonyms") or [], facts.get("ids") or {}
    if not isinstance(synonyms, list) or not isinstance(ids, dict):
        raise ValueError(
            f"{where} has synonyms {synonyms!r} and ids {ids!r}, expected a list of names, and "
            "{standard: term id}"
        )
    for word in (*words, facts["name"], *synonyms):
        if not isinstance(word, str) or "," in word or word != word.strip() or not word:
            raise ValueError(
                f"{path}: {word!r} is no text, is empty, has a comma or blanks around it; tables "
                "join names with commas"
            )
    terms = tuple((str(standard), str(term)) for standard, term in ids.items())
    return Place(*words, facts["name"], sex, float(size), tuple(synonyms), terms)


def _check_unique(path: Path, names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path} has the {what} {name!r} more than once")
        seen.add(name)


def _check_synonyms(path: Path, places: Sequence[Place]) -> None:
    owners = {place.name.casefold(): place.name for place in places}
    for place in places:
        for synonym in place.synonyms:
            other = owners.setdefault(synonym.casefold(), place.name)
            if other != place.name:
                raise ValueError(
                    f"{path}: {synonym!r} is a synonym of {place.name!r} and means {other!r} too"
                )


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


def _check_texts(path: Path, texts: Mapping[str, Any], places: Sequence[Place]) -> None:
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
