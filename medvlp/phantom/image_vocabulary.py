"""The WordPiece vocabulary of the six-modality twin: words of its captions and of the prompts."""

import re

from medvlp.phantom.image_captions import all_texts
from medvlp.phantom.vocabulary import spelling
from medvlp.prompts.prompt_ensembles import PromptEnsembles

_MAX_NUMBER = 100


def build_image_vocabulary() -> list[str]:
    """Return the tokens in the order of their ids.

    What any text can be spelt with comes first, as in the vocabulary of the 3D twins; then words
    of the captions, of UniMed-CLIP's published prompts, and numbers.
    """
    prompts = PromptEnsembles.load("unimed_clip").sets
    asked = [text for one in prompts.values() for texts in one.values() for text in texts]
    tokens = spelling()
    for texts in (all_texts(), asked):
        tokens += sorted(
            {word for text in texts for word in re.findall(r"[a-z]+[0-9]*", text.lower())}
        )
    tokens += [str(number) for number in range(_MAX_NUMBER + 1)]
    return list(dict.fromkeys(tokens))
