"""What is written about painted images: several wordings of every finding."""

import json
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from itertools import product
from typing import Any

import numpy as np

NUM_LABEL_CAPTIONS = 10  # for each label, as UniMed's tables have
_PLANES = ("axial", "coronal", "sagittal")


@lru_cache(maxsize=1)
def wordings() -> dict[str, Any]:
    """Read the table of words."""
    folder = resources.files("medvlp.phantom")
    return json.loads(folder.joinpath("image_wordings.json").read_text(encoding="utf-8"))


def name_of(modality: str, finding: str) -> str:
    """Name a finding without the plane of its slice.

    >>> name_of("ct", "axial liver"), name_of("fundus", "normal")
    ('liver', 'normal')
    """
    return finding.split(" ", 1)[1] if modality == "ct" else finding


@lru_cache(maxsize=512)
def label_captions(modality: str, name: str) -> tuple[str, ...]:
    """List the captions of a label: its sentences, then phrases in frames.

    Args:
        modality: Of the image.
        name: Of the finding, see `name_of`.
    """
    words = wordings()["findings"][modality][name]
    frames = wordings()["frames"][modality]["label"]
    phrases = words["phrases"]
    framed = [
        _fill(frame, phrases[(turn + number) % len(phrases)])
        for turn in range(len(phrases))
        for number, frame in enumerate(frames)
    ]
    captions = list(dict.fromkeys([*words["sentences"], *framed]))
    return tuple(captions[:NUM_LABEL_CAPTIONS])


def native_caption(modality: str, finding: str, generator: np.random.Generator) -> str:
    """Write a caption as a figure of an article has it: a frame, a phrase, at times the patient."""
    grammar = wordings()
    words = grammar["findings"][modality][name_of(modality, finding)]
    if generator.random() < 0.2:
        return _choice(words["sentences"], generator)
    frame = _choice(grammar["frames"][modality]["native"], generator)
    sex = ("woman", "man")[int(generator.integers(2))]
    context = _choice(grammar["context"], generator)
    context = context.format(age=int(generator.integers(18, 90)), sex=sex)
    plane = finding.split(" ")[0] if modality == "ct" else ""
    return _fill(frame, _choice(words["phrases"], generator), context=context, plane=plane)


def report(modality: str, finding: str, generator: np.random.Generator) -> str:
    """Write a short report of two or three sentences."""
    words = wordings()["findings"][modality][name_of(modality, finding)]
    first = _choice(words["sentences"], generator)
    return f"FINDINGS: {first} IMPRESSION: {_capital(_choice(words['phrases'], generator))}."


def all_texts() -> Iterator[str]:
    """Yield every word that a caption can hold, in texts, for the vocabulary."""
    grammar = wordings()
    yield "FINDINGS: IMPRESSION: The fundus image of woman man aged."
    for modality, findings in grammar["findings"].items():
        frames = grammar["frames"][modality]
        for words, frame in product(findings.values(), [*frames["label"], *frames["native"]]):
            for phrase in words["phrases"]:
                yield _fill(frame, phrase, plane=" ".join(_PLANES))
        for words in findings.values():
            yield from words["sentences"]
    yield from (context.format(age=0, sex="") for context in grammar["context"])


def _fill(frame: str, phrase: str, *, context: str = "", plane: str = "") -> str:
    return _capital(frame.format(t=phrase, T=_capital(phrase), c=context, p=plane))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _choice(texts: list[str], generator: np.random.Generator) -> str:
    return texts[int(generator.integers(len(texts)))]
