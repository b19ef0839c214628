"""Options that choose among names: splits, labels, sources, sequences."""

from collections.abc import Collection, Sequence


def check_choice(what: str, given: Sequence[str], known: Collection[str]) -> None:
    """Refuse a choice that is empty or has a name that is not known.

    >>> check_choice("splits", ["train"], ("train", "valid"))

    Args:
        what: Name of the option.
        given: What it was set to.
        known: What can be chosen.

    Raises:
        ValueError: With what was given and what is known.
    """
    if not given or set(given) - set(known):
        raise ValueError(f"{what} is {list(given)}, expected a choice of {list(known)}")
