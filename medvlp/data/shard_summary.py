"""Tables for the terminal about prepared shards."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from medvlp.data.engine import PreparationError
from medvlp.data.quarantine import quarantine_file
from medvlp.data.shard_manifest import ShardManifest

_SHOWN_CHARACTERS = 240
_NAMED_REASONS = 3
_COUNTS = ("rows", "samples", "shards", "left out")


def caption_table(name: str, manifest: ShardManifest) -> Table:
    """Show the first samples: number, image and caption field, cut where it is long."""
    table = Table("sample", "image", "caption field", title=f"{name}: the first samples")
    for example in manifest.examples:
        text = example["text"]
        if len(text) > _SHOWN_CHARACTERS:
            text = f"{text[:_SHOWN_CHARACTERS]}... ({len(text):,} characters)"
        table.add_row(example["sample"], escape(example["image"]), escape(text))
    return table


def summary(manifests: Sequence[ShardManifest], out_dir: Path) -> list[Table | str]:
    """Say what was prepared, what was left out and where all lies."""
    if not manifests:
        return []
    told: list[Table | str] = [counts_table(manifests)]
    if any(manifest.num_skipped for manifest in manifests):
        told.append(reasons_table(manifests))
        told.append("quarantine.csv beside the shards names each row that was left out")
    return [*told, f"everything lies in {out_dir.resolve()}"]


def counts_table(manifests: Sequence[ShardManifest]) -> Table:
    """Count rows, samples and shards of every source."""
    table = Table("shards in", *(Column(name, justify="right") for name in _COUNTS))
    for manifest in manifests:
        counts = (
            manifest.num_rows,
            manifest.num_samples,
            len(manifest.shards),
            manifest.num_skipped,
        )
        table.add_row(manifest.folder.name, *(f"{count:,}" for count in counts))
    return table


def reasons_table(manifests: Sequence[ShardManifest]) -> Table:
    """Count the rows of all sources that gave no sample, by reason."""
    table = Table(Column("rows", justify="right"), "left out because")
    total = sum((Counter(manifest.skips) for manifest in manifests), Counter[str]())
    for reason, count in total.most_common():
        table.add_row(f"{count:,}", escape(reason))
    return table


def check_skipped(name: str, manifest: ShardManifest, *, allowed: float) -> None:
    """Stop if there is no sample, or more rows gave none than is allowed.

    Raises:
        PreparationError: With the most frequent reasons.
    """
    skipped = manifest.num_skipped
    if manifest.num_samples and skipped <= allowed * manifest.num_rows:
        return
    reasons = Counter(manifest.skips).most_common(_NAMED_REASONS)
    told = "; ".join(f"{count:,} x {reason}" for reason, count in reasons)
    raise PreparationError(
        f"{skipped:,} of {manifest.num_rows:,} rows gave no sample ({told}), the share of "
        f"{allowed:g} is allowed; {quarantine_file(manifest.folder)} names each. Mend them, delete "
        f"{manifest.folder} and run again, or allow more with max_quarantine_share=..."
    )
