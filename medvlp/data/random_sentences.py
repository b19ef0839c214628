"""Long reports cut as HSENet cuts them: by sentences drawn at random."""

import random
from collections.abc import Callable


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
