"""How alike generated and true texts are: by n-grams, longest common parts and words.

Everything is computed for each pair of texts, stripped of outer white space, so that a bootstrap
over patients weighs pairs instead of reading texts again. An empty generated text scores 0.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from medvlp.evaluation.wordnet import NoSynonyms, find_wordnet

ORDERS = 4
Texts = Sequence[str]


def bleu_statistics(generated: Texts, truth: Texts) -> Int[ndarray, "n 10"]:
    """Count what BLEU is made of, case-sensitive, in the words of mteval-13a.

    Returns:
        For each pair: clipped matches of order 1 to 4, n-grams of order 1 to 4 in the generated
        text, words of the generated and of the true text.
    """
    bleu = _sacrebleu()(tokenize="13a", effective_order=True)
    rows = []
    for text, true in _stripped(generated, truth):
        score = bleu.sentence_score(text, [true])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=np.int64).reshape(-1, 2 * ORDERS + 2)


def ngram_precisions(statistics: Int[ndarray, "n 10"]) -> Float[ndarray, "n 4"]:
    """Return the clipped precision of each order alone, which HSENet publishes as "BLEU-n".

    There is no geometric mean, no brevity penalty and no smoothing in it, so that it cannot be
    compared with BLEU. A text too short for an order has precision 0. NaN where one of the texts
    has no word: the published code stops there.

    Reference: HSENet (arXiv 2506.09634), published repository, report generation.
    """
    matches, totals = statistics[:, :ORDERS], statistics[:, ORDERS : 2 * ORDERS]
    precisions = np.divide(matches, totals, out=np.zeros(matches.shape), where=totals > 0)
    precisions[(statistics[:, -2:] == 0).any(axis=1)] = np.nan
    return precisions


def corpus_bleu(
    statistics: Int[ndarray, "n 10"], weights: Float[ndarray, "r n"], *, order: int = ORDERS
) -> Float[ndarray, " r"]:
    """Compute BLEU of all pairs together, in [0, 1], for every row of weights (whole numbers)."""
    bleu = _sacrebleu()
    sums = np.rint(weights @ statistics).astype(np.int64).tolist()
    return np.array(
        [
            bleu.compute_bleu(
                correct=row[:order],
                total=row[ORDERS : ORDERS + order],
                sys_len=row[-2],
                ref_len=row[-1],
                max_ngram_order=order,
            ).score
            / 100
            for row in sums
        ]
    )


def rouge(generated: Texts, truth: Texts) -> dict[str, Float[ndarray, " n"]]:
    """Compute the F-measures ROUGE-1 and ROUGE-L, without stemming, in lower case."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError(_missing("rouge-score")) from error
    names = ["rouge1", "rougeL"]
    scorer = RougeScorer(names)
    scores = [scorer.score(true, text) for text, true in _stripped(generated, truth)]
    return {name: np.array([score[name].fmeasure for score in scores]) for name in names}


def meteor(generated: Texts, truth: Texts) -> Float[ndarray, " n"]:
    """Compute METEOR (alpha 0.9, beta 3, gamma 0.5): equal words, equal stems, WordNet synonyms.

    Without WordNet the synonyms are left out; see `has_synonyms`.
    """
    try:
        from nltk.translate.meteor_score import meteor_score
    except ImportError as error:
        raise ImportError(_missing("nltk")) from error
    wordnet, words = find_wordnet(), _word_tokenizer()

    @cache
    def score(text: str, true: str) -> float:
        heard, said = words(text), words(true)
        return float(meteor_score([said], heard, alpha=0.9, beta=3.0, gamma=0.5, wordnet=wordnet))

    return np.array([score(text, true) for text, true in _stripped(generated, truth)])


def has_synonyms() -> bool:
    """Tell whether METEOR sees synonyms here."""
    return not isinstance(find_wordnet(), NoSynonyms)


def _word_tokenizer() -> Callable[[str], list[str]]:
    """Cut as NLTK's `word_tokenize`, with sentences by Punkt's rules alone: no data is needed."""
    from nltk.tokenize import NLTKWordTokenizer
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    sentences, words = PunktSentenceTokenizer(), NLTKWordTokenizer()
    return lambda text: [
        word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)
    ]


def _stripped(generated: Texts, truth: Texts) -> list[tuple[str, str]]:
    return [(text.strip(), true.strip()) for text, true in zip(generated, truth, strict=True)]


def _sacrebleu() -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ImportError(_missing("sacrebleu")) from error
    return BLEU


def _missing(package: str) -> str:
    return f"text metrics need {package}: pip install 'medvlp[metrics]'"
