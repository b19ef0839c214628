"""CIDEr-D of generated texts: n-grams weighed by how rare they are among the true texts."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

ORDERS, SIGMA = 4, 6.0
_Ngrams = Counter[tuple[str, ...]]


def cider_d(generated: Sequence[str], truth: Sequence[str]) -> Float[ndarray, " n"]:
    """Compute CIDEr-D of each text against its only reference, from 0 to 10.

    Clipped and with a penalty of other lengths, as the scorer of COCO captions, which calls it
    CIDEr, and unlike the paper's first CIDEr, which stems words and does neither. Words are those
    of mteval-13a in lower case. How rare an n-gram is, is counted among the references given, so
    that figures of other sets of references cannot be compared.

    Reference: Vedantam et al., CIDEr (CVPR 2015), CIDEr-D.
    """
    counts = [[_ngrams(text) for text in texts] for texts in (generated, truth)]
    documents: Counter[tuple[str, ...]] = Counter()
    for found in counts[1]:
        documents.update(found.keys())
    log_count = math.log(max(len(truth), 2))
    rarity = {gram: log_count - math.log(number) for gram, number in documents.items()}
    return np.array(
        [_pair(text, true, rarity, log_count) for text, true in zip(*counts, strict=True)]
    )


def _ngrams(text: str) -> _Ngrams:
    words = _words(text)
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(words) - order + 1)
    )


def _words(text: str) -> list[str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text.strip().lower()).split()


def _pair(
    text: _Ngrams, true: _Ngrams, rarity: Mapping[tuple[str, ...], float], unseen: float
) -> float:
    lengths = [sum(n for gram, n in grams.items() if len(gram) == 2) for grams in (text, true)]
    penalty = math.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2))
    total = 0.0
    for order in range(1, ORDERS + 1):
        vectors = [
            {g: n * rarity.get(g, unseen) for g, n in grams.items() if len(g) == order}
            for grams in (text, true)
        ]
        norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in vectors]
        product = sum(
            min(value, vectors[1][gram]) * vectors[1][gram]
            for gram, value in vectors[0].items()
            if gram in vectors[1]
        )
        if norms[0] and norms[1]:
            total += product / (norms[0] * norms[1]) * penalty
    return 10 * total / ORDERS
