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

    coarse:                                   # what else is known of coarse places
      Liver: {synonyms: [Hepar], ids: {FMA: "7197"}}

A fine word may stand under several coarse places (a left and a right one), and has one description.
Such a file may be a folder of several, which count as one, in the order of their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.data.distinct_keys import check_unique, read_mapping
from medvlp.data.tables import nearest

_KEYS = ("name", "sex", "gender", "max_size", "synonyms", "ids")
_PARTS = ("places", "descriptions", "coarse")
PUBLISHED = (
    "HCL-AL's two files are in md_clip3d/library of github.com/HerrBaum-YR/HCL-AL (no licence "
    "stated: ask the authors before you pass them on); set vocabulary=... and descriptions=..."
)
"""Where the published vocabulary is, for messages."""


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


class OtherNames(NamedTuple):
    """What else is known of a coarse place; see `Place`."""

    synonyms: tuple[str, ...] = ()
    ids: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PlaceFile:
    """What files of places say.

    Attributes:
        places: In their order.
        descriptions: Word to text.
        coarse: Coarse place to its other names, where any are stated.
    """

    places: list[Place]
    descriptions: dict[str, str] = field(default_factory=dict)
    coarse: dict[str, OtherNames] = field(default_factory=dict)


def read_places(vocabulary: Path, descriptions: Path | None = None) -> PlaceFile:
    """Read and check a vocabulary, and its descriptions if they are a file of their own.

    Raises:
        FileNotFoundError: If one is not there, with where to get it.
        ValueError: If it cannot be right: see the checks below.
    """
    tree = _load_folder(vocabulary) if vocabulary.is_dir() else _load(vocabulary)
    texts: dict[str, Any] = {}
    others: dict[str, Any] = {}
    source = vocabulary
    if "places" in tree:
        texts, others = (dict(tree.get(part) or {}) for part in _PARTS[1:])
        tree = _own_tree(vocabulary, tree)
    if descriptions is not None:
        texts, source = _load(descriptions), descriptions
    places = _places(vocabulary, tree)
    check_unique(vocabulary, [place.name for place in places], "final name")
    _check_synonyms(vocabulary, [(place.name, place.synonyms) for place in places])
    _check_circles(vocabulary, places)
    coarse = _coarse(vocabulary, others, places)
    if texts:
        _check_texts(source, texts, places)
    return PlaceFile(places, texts, coarse)


def _own_tree(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in tree if key not in _PARTS]
    if unknown or not isinstance(tree["places"], dict):
        raise ValueError(
            f"{path} has the keys {', '.join(map(str, tree))}: expected 'places', a tree, and "
            "'descriptions' and 'coarse'"
        )
    return tree["places"]


def _load_folder(folder: Path) -> dict[str, Any]:
    """Join the files of a folder into what one of them would say."""
    joined: dict[str, Any] = {}
    for path in sorted(folder.glob("*.yaml")):
        tree = _load(path)
        _own_tree(path, tree | {"places": tree.get("places")})
        for part in _PARTS:
            there, new = joined.setdefault(part, {}), tree.get(part) or {}
            check_unique(path, [*there, *new], "key")
            there |= new
    if not joined:
        raise FileNotFoundError(f"{folder} holds no .yaml file of places")
    return joined


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; {PUBLISHED}")
    return read_mapping(path)


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
    others = _other_names(path, where, facts)
    for word in (*words, facts["name"]):
        _check_word(path, word)
    return Place(*words, facts["name"], sex, float(size), *others)


def _coarse(path: Path, tree: Mapping[str, Any], places: Sequence[Place]) -> dict[str, OtherNames]:
    words = dict.fromkeys(place.coarse for place in places)
    coarse: dict[str, OtherNames] = {}
    for word, facts in tree.items():
        if word not in words:
            raise ValueError(f"{path}: {word!r} is no coarse place{nearest(str(word), words)}")
        if not isinstance(facts, dict) or set(facts) - {"synonyms", "ids"}:
            raise ValueError(f"{path}: {word!r} is {facts!r}, expected synonyms and ids")
        coarse[word] = _other_names(path, f"{path}: {word}", facts)
    none = OtherNames()
    _check_synonyms(path, [(word, coarse.get(word, none).synonyms) for word in words])
    return coarse


def _other_names(path: Path, where: str, facts: Mapping[str, Any]) -> OtherNames:
    synonyms, ids = facts.get("synonyms") or [], facts.get("ids") or {}
    if not isinstance(synonyms, list) or not isinstance(ids, dict):
        raise ValueError(
            f"{where} has synonyms {synonyms!r} and ids {ids!r}, expected a list of names, and "
            "{standard: term id}"
        )
    for word in synonyms:
        _check_word(path, word)
    terms = tuple((str(standard), str(term)) for standard, term in ids.items())
    return OtherNames(tuple(synonyms), terms)


def _check_word(path: Path, word: Any) -> None:
    if not isinstance(word, str) or "," in word or word != word.strip() or not word:
        raise ValueError(
            f"{path}: {word!r} is no text, is empty, has a comma or blanks around it; tables "
            "join names with commas"
        )


def _check_synonyms(path: Path, names: Sequence[tuple[str, Sequence[str]]]) -> None:
    owners = {name.casefold(): name for name, _ in names}
    for name, synonyms in names:
        for synonym in synonyms:
            other = owners.setdefault(synonym.casefold(), name)
            if other != name:
                raise ValueError(
                    f"{path}: {synonym!r} is a synonym of {name!r} and means {other!r} too"
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
