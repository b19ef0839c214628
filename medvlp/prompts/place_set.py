"""Place sets: where a lesion can be, kept as data files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_FOLDER = Path(__file__).parent / "places"
_FACTS = {"text", "synonyms", "term", "sex", "parts"}


class PlaceEntry(NamedTuple):
    """What a place set says of a fine place.

    Attributes:
        region: Of the body.
        coarse: Place that holds this one.
        fine: Its own name.
        sex: "F" or "M" where only they have it.
    """

    region: str
    coarse: str
    fine: str
    sex: str


@dataclass(frozen=True)
class PlaceSet:
    """Places of the body and what is known of each.

    Attributes:
        name: Of the set.
        entries: Fine places, in the order that decides ties.
        texts: Coarse or fine place to what a text tower reads.
        synonyms: Other name to the place it means.
        terms: Place to the SNOMED CT concept of its structure, without the side.
    """

    name: str
    entries: tuple[PlaceEntry, ...]
    texts: dict[str, str]
    synonyms: dict[str, str]
    terms: dict[str, str]

    @classmethod
    def load(cls, name_or_path: str = "whole_body") -> "PlaceSet":
        """Read a shipped set by name, or a folder with an index.yaml by path.

        Raises:
            FileNotFoundError: If neither exists, or a region's file is missing.
            ValueError: If an entry is not understood, or a place, text or synonym is not unique.
        """
        shipped = _FOLDER / name_or_path
        folder = shipped if shipped.is_dir() else Path(name_or_path)
        index = folder / "index.yaml"
        if not index.is_file():
            names = ", ".join(sorted(path.name for path in _FOLDER.iterdir()))
            raise FileNotFoundError(
                f"no place set {name_or_path!r}; shipped are {names}, or give a folder with an "
                "index.yaml like theirs"
            )
        tree = yaml.safe_load(index.read_text(encoding="utf-8"))
        regions = {
            region: _region(folder / Path(file).name) for region, file in tree["regions"].items()
        }
        return cls.from_regions(tree["name"], regions)

    @classmethod
    def from_regions(cls, name: str, regions: Mapping[str, Mapping[str, Any]]) -> "PlaceSet":
        """Build from {region: {coarse place: {text, parts: {fine place: {text}}}}}.

        Raises:
            ValueError: As `load` says.
        """
        entries: list[PlaceEntry] = []
        texts: dict[str, str] = {}
        synonyms: dict[str, str] = {}
        terms: dict[str, str] = {}
        for region, coarse, place, facts in _walk(name, regions):
            _add(name, texts, place, facts["text"], "place")
            for synonym in facts.get("synonyms", ()):
                _add(name, synonyms, synonym, place, "synonym")
            if "term" in facts:
                terms[place] = str(facts["term"])
            sex = regions[region][coarse].get("sex", "")
            entries += [PlaceEntry(region, coarse, part, sex) for part in facts.get("parts", ())]
        if len(set(texts.values())) < len(texts):
            repeated = sorted(t for t in texts.values() if list(texts.values()).count(t) > 1)
            raise ValueError(f"{name}: several places have the text {repeated[0]!r}")
        both = sorted(set(synonyms) & set(texts))
        if both:
            raise ValueError(f"{name}: {both[0]!r} is a place and a synonym of another one")
        return cls(name, tuple(entries), texts, synonyms, terms)


def _region(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, but the index beside it names it")
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"{path} holds no places")
    return tree


def _walk(
    name: str, regions: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield region, coarse place, place and facts of every coarse place and each part."""
    for region, places in regions.items():
        for coarse, facts in places.items():
            if not (isinstance(facts, Mapping) and facts.get("parts")):
                raise ValueError(f"{name}: {region} > {coarse} has no parts, expected at least one")
            for place, own in ((coarse, facts), *facts["parts"].items()):
                if not isinstance(own, Mapping) or not isinstance(own.get("text"), str):
                    raise ValueError(f"{name}: {region} > {coarse}: {place} has no text")
                if unknown := set(own) - _FACTS:
                    raise ValueError(
                        f"{name}: {place} has {sorted(unknown)}, expected {sorted(_FACTS)}"
                    )
                yield region, coarse, place, own


def _add(name: str, table: dict[str, str], key: str, value: str, what: str) -> None:
    if key in table:
        raise ValueError(f"{name} has the {what} {key!r} more than once")
    table[key] = value
