"""The vocabulary of places: body region > coarse place > fine word > final name, and its texts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from medvlp.data.place_file import PUBLISHED, OtherNames, Place, read_places
from medvlp.data.tables import nearest

_SHIPPED = "places"  # a folder of medvlp.prompts
_FLAT = ":flat"


class PlaceVocabulary:
    """The tree of HCL-AL (Gao et al., IEEE TMI 2025) or one of your own, and its descriptions.

    Args:
        places: In the order of the file, which decides ties and samplers.
        descriptions: Word (coarse or fine) to the text that a text tower sees.
        coarse: Coarse place to its other names, where it has any.
    """

    def __init__(
        self,
        places: Sequence[Place],
        descriptions: Mapping[str, str],
        coarse: Mapping[str, OtherNames] | None = None,
    ) -> None:
        self.places = tuple(places)
        self.descriptions = dict(descriptions)
        self._by_name = {place.name: place for place in self.places}
        # an exact name comes before a synonym
        names = [(name, place) for place in self.places for name in (*place.synonyms, place.name)]
        self._by_any = {name.casefold(): place for name, place in names}
        self.coarse_names = dict(coarse or {})
        self._coarse_by_any = {
            name.casefold(): word
            for word, others in self.coarse_names.items()
            for name in others.synonyms
        }

    @classmethod
    def read(cls, vocabulary: Path, descriptions: Path | None = None) -> "PlaceVocabulary":
        """Read and check the files; for their layouts see `medvlp.data.place_file`.

        Args:
            vocabulary: JSON or YAML, or a folder of YAML files.
            descriptions: Of its words, where they are a file of their own; None leaves them out.

        Raises:
            FileNotFoundError: If one is not there, with where to get it.
            ValueError: If a name or description is not unique, a key is repeated, a word has no
                description, a name holds a comma, or places contain each other in a circle.
        """
        content = read_places(vocabulary, descriptions)
        return cls(content.places, content.descriptions, content.coarse)

    @classmethod
    def load(cls, name_or_path: str, descriptions: str | None = None) -> "PlaceVocabulary":
        """Read a shipped vocabulary by its name, or files by their paths.

        With ":flat" behind the name, all its places in one coarse place: see `flat`.

        Raises:
            FileNotFoundError, ValueError: See `read`.
        """
        if name_or_path.endswith(_FLAT):
            return cls.load(name_or_path.removesuffix(_FLAT), descriptions).flat()
        folder = Path(str(files("medvlp.prompts"))) / _SHIPPED
        shipped = {path.stem: path for path in folder.iterdir()}
        path = shipped.get(name_or_path, Path(name_or_path))
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there, and no vocabulary that is shipped; these are "
                f"{', '.join(sorted(shipped))}; {PUBLISHED}"
            )
        return cls.read(path, None if descriptions is None else Path(descriptions))

    def flat(self) -> "PlaceVocabulary":
        """Put all places into one coarse place: for one stage that ranks them at once.

        The text of each is that of its fine word and, behind it, that of its coarse place.
        """
        whole = "Anywhere"
        texts = {
            place.name: f"{self.text_of(place.fine)} {self.text_of(place.coarse)}"
            for place in self.places
        }
        places = [p._replace(body=whole, coarse=whole, fine=p.name) for p in self.places]
        return PlaceVocabulary(places, {whole: whole.lower()} | texts)

    def locate(self, name: str) -> Place:
        """Find a final name, or a synonym of one; case does not matter.

        Raises:
            ValueError: If there is none, with the name that is spelt most like it.
        """
        place = self._by_name.get(name) or self._by_any.get(name.casefold())
        if place is None:
            advice = nearest(name, [*self._by_name, *(s for p in self.places for s in p.synonyms)])
            raise ValueError(f"{name!r} is not a place of the vocabulary{advice}")
        return place

    def within(self, coarse: str) -> tuple[Place, ...]:
        """List the places of a coarse place or a synonym of one, in the order of the file.

        Raises:
            ValueError: If there is no such coarse place, with the nearest.
        """
        word = coarse if coarse in self._by_coarse else self._coarse_by_any.get(coarse.casefold())
        if word is None:
            advice = nearest(coarse, [*self._by_coarse, *self._coarse_by_any])
            raise ValueError(f"{coarse!r} is not a coarse place of the vocabulary{advice}")
        return self._by_coarse[word]

    def text_of(self, word: str) -> str:
        """Return the description of a word.

        Raises:
            ValueError: If it has none.
        """
        if word not in self.descriptions:
            raise ValueError(
                f"the vocabulary was read without a description of {word!r}"
                f"{nearest(word, self.descriptions)}; give the file of descriptions"
            )
        return self.descriptions[word]

    @cached_property
    def coarse_words(self) -> tuple[str, ...]:
        """All coarse places, in the order of the file."""
        return tuple(self._by_coarse)

    @cached_property
    def all_fine_words(self) -> tuple[str, ...]:
        """All different fine words, in the order of the file."""
        return tuple(dict.fromkeys(place.fine for place in self.places))

    @cached_property
    def digest(self) -> str:
        """Hash of all that it says."""
        text = json.dumps([self.places, self.descriptions, self.coarse_names], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def fine_words(self, coarse: str) -> tuple[str, ...]:
        """Return the fine words of a coarse place, in the order of the file."""
        return tuple(place.fine for place in self.within(coarse))

    @cached_property
    def _by_coarse(self) -> dict[str, tuple[Place, ...]]:
        grouped: dict[str, list[Place]] = {}
        for place in self.places:
            grouped.setdefault(place.coarse, []).append(place)
        return {coarse: tuple(places) for coarse, places in grouped.items()}
