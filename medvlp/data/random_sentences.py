"""Long reports cut as HSENet cuts them: by sentences drawn at random."""

import random
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class TokenCounter(Protocol):
    """A tokenizer that counts, as every `medvlp.text.tokenizers.TextTokenizer` does."""

    def count(self, text: str) -> int:
        """Count the tokens of a whole text, special tokens included."""
        ...


class RandomSentences:
    """Cuts long reports as HSENet's published code does, in training and in evaluation.

    A sample draws from its own source of chance: sentences change from epoch to epoch, and are
    the same in every evaluation. The published evaluation draws for all reports in the order of
    their list from one `random.Random(42)`, which `random_sentences` repeats.

    Args:
        tokenizer: Counts; None is allowed where no text is made, as in preparation.
        budget: In tokens.
    """

    def __init__(self, tokenizer: TokenCounter | None, *, budget: int = 512) -> None:
        self.tokenizer, self.budget = tokenizer, budget

    def __call__(self, text: str, generator: np.random.Generator) -> str:
        """Cut a report that is longer than the budget.

        Raises:
            ValueError: If there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError("a report is cut by its tokens; give RandomSentences a tokenizer")
        chance = random.Random(int(generator.integers(2**63)))
        return random_sentences(text, self.budget, self.tokenizer.count, chance)


def random_sentences(
    text: str, budget: int, count_tokens: Callable[[str], int], generator: random.Random
) -> str:
    """Keep sentences of a report that is longer than the budget, in the order they are drawn.

    The first sentence is kept and does not count; each other counts with its own special tokens.

    Args:
        text: Cut at every full stop, decimal ones included.
        budget: In tokens.
        count_tokens: Special tokens included.
        generator: Python's, so that a seed gives the published choice.

    Reference: HSENet (arXiv 2506.09634), published repository, text truncation.
    """
    if count_tokens(text) <= budget:
        return text
    first, *parts = text.split(".")
    kept, used = [first], 0
    while used <= budget and parts:
        part = generator.choice(parts)
        length = count_tokens(part)
        if used + length <= budget and part not in kept:
            kept.append(part)
            used += length
        else:
            parts.remove(part)
    return ".".join(kept)
