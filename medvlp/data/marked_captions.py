"""Several captions in one text field, each followed by the marker of its source."""

import string
from collections.abc import Iterable

from medvlp.data.captioned_images import Compat

_AROUND = string.whitespace + "."


def marked(captions: Iterable[str], marker: str, *, compat: Compat, dots: bool = False) -> str:
    """Write captions as sentences with one full stop, each followed by the marker.

    By default white space around a caption goes and an empty one is left out. The published
    scripts take dots off both ends only, and write an empty caption as a dot.

    >>> marked(["Edema.", "", "no nodule "], "_chexpert_", compat=None)
    'Edema._chexpert_no nodule._chexpert_'
    >>> marked(["Edema.", "", "no nodule "], "_chexpert_", compat="published")
    'Edema._chexpert_._chexpert_no nodule ._chexpert_'

    Args:
        captions: In the order of the field.
        marker: Tells the reader which source it is.
        compat: "published" or None.
        dots: The published texts keep their own dots before the added one, as RadImageNet's do.
    """
    if compat == "published":
        sentences = [caption if dots else caption.strip(".") for caption in captions]
    else:
        sentences = [text for caption in captions if (text := caption.strip(_AROUND))]
    return "".join(f"{sentence}.{marker}" for sentence in sentences)
