"""Answers to questions: right or wrong, by words, major class and anatomy."""

from collections.abc import Sequence

CATEGORIES = (
    "Lung",
    "Trachea and Bronchie",
    "Mediastinum",
    "Heart",
    "Esophagus",
    "Pleura",
    "Bone",
    "Thyroid",
    "Breast",
    "Abdomen",
    "Others",
)
"""Anatomies of HSENet's protocol, spelt and ordered as published."""


def category(text: str) -> str:
    """Return the first anatomy whose name the text holds, in the published order.

    >>> category("Right lung and pleura"), category("Shoulder")
    ('Lung', 'Others')
    """
    low = text.lower()
    return next((name for name in CATEGORIES if name.lower() in low), CATEGORIES[-1])


def published_class_accuracy(generated: str, answer: str) -> int:
    """Tell whether the major class of the generated text is a part of the answer, as published.

    What stands before the first "/" counts, so that an empty text is always right.

    >>> published_class_accuracy("lung/left", "Lung/Right"), published_class_accuracy("", "Lung")
    (1, 1)

    Reference: HSENet (arXiv 2506.09634), published repository, "acc_class".
    """
    return int(generated.strip().partition("/")[0].lower() in answer.lower())


def published_text_accuracy(generated: str, answer: str) -> int:
    """Tell whether the texts are equal but for case, as published under "acc_text"."""
    return int(generated.strip().lower() == answer.strip().lower())


def same_class(generated: str, answer: str) -> bool:
    """Tell whether both texts name the same major class, what stands before the first "/".

    >>> same_class("lung/left lung", "Lung/Right lung"), same_class("", "Lung")
    (True, False)
    """
    said = normalised(generated.partition("/")[0])
    return bool(said) and said == normalised(answer.partition("/")[0])


def same_answer(generated: str, answer: str) -> bool:
    """Tell whether the texts are equal but for case, spaces and outer punctuation.

    >>> same_answer(" yes", "Yes."), same_answer("Yes, it is.", "Yes.")
    (True, False)
    """
    return bool(normalised(generated)) and normalised(generated) == normalised(answer)


def is_choice(generated: str, choices: Sequence[str]) -> bool:
    """Tell whether a text is one of the possible answers of a closed question."""
    return any(same_answer(generated, choice) for choice in choices)


def normalised(text: str) -> str:
    """Return a text in small letters, with single spaces, without outer punctuation."""
    return " ".join(text.lower().split()).strip(" \t.,;:!?'\"()")
