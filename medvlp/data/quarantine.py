"""What was left out of a prepared data set, and why: quarantine.csv."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from medvlp.data.cache import write_atomically
from medvlp.data.engine import PreparationError
from medvlp.data.records import Skip

_NAMED_REASONS = 3
_FIGURE = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")
_PATH = re.compile(r"\S*/\S*[^\s:;,.]")


def quarantine_file(folder: Path) -> Path:
    """Say which file of a prepared data set names what was left out, and why."""
    return folder / "quarantine.csv"


def write_quarantine(path: Path, skips: Iterable[Skip]) -> None:
    """Write one line for each, in their order; a name that is not UTF-8 is written with escapes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "reason"])
    writer.writerows([skip.id, skip.reason] for skip in skips)
    write_atomically(path, text.getvalue().encode(errors="backslashreplace"))


def summarise_skips(skips: Iterable[Skip]) -> dict[str, int]:
    """Count skips by reason, the most frequent first.

    Reasons that differ in paths or figures only are one: the first of them is told.

    >>> summarise_skips([Skip("a", "a: 3 of 9 bytes"), Skip("b", "b: 5 of 9 bytes")])
    {'3 of 9 bytes': 2}
    """
    counter: Counter[str] = Counter()
    told: dict[str, str] = {}
    for skip in skips:
        reason = re.sub(rf"(?<!\w){re.escape(skip.id)}(?!\w)", "", skip.reason).lstrip(": ")
        kind = _FIGURE.sub("#", _PATH.sub("", reason))
        told.setdefault(kind, reason)
        counter[kind] += 1
    return {told[kind]: count for kind, count in counter.most_common()}


def check_share(refused: Sequence[Skip], total: int, *, allowed: float, folder: Path) -> None:
    """Stop if more scans were refused than is allowed.

    Raises:
        PreparationError: With the most frequent reasons.
    """
    if len(refused) <= allowed * total:
        return
    reasons = list(summarise_skips(refused).items())
    told = "; ".join(f"{count:,} x {reason}" for reason, count in reasons[:_NAMED_REASONS])
    others = f"; and {len(reasons) - _NAMED_REASONS} other reasons" * (
        len(reasons) > _NAMED_REASONS
    )
    raise PreparationError(
        f"{len(refused):,} of {total:,} scans were refused, more than the share of {allowed:g} "
        f"that is allowed: {told}{others}. {quarantine_file(folder)} names each. Mend them, or "
        "allow more with max_quarantine_share=..."
    )
