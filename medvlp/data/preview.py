"""One batch as a table, to see what a network would be given."""

from collections.abc import Mapping
from typing import Any

from lightning import LightningDataModule
from torch import Tensor

from medvlp.types import Tokens

_WIDTH = 60


def first_batch(module: LightningDataModule) -> tuple[str, Mapping[str, Any]]:
    """Load one batch of the training split, or of the test split where there is no training.

    Args:
        module: Prepared. The batch is as the loader gives it: what is left to the device is not
            done.

    Returns:
        The split, and the batch.

    Raises:
        ValueError: If neither split fills a batch, with what each said.
    """
    reasons = []
    for stage, split in (("fit", "train"), ("test", "test")):
        try:
            module.setup(stage)
            return split, next(iter(getattr(module, f"{split}_dataloader")()))
        except (ValueError, StopIteration) as error:
            reasons.append(f"{split}: {error or 'no samples'}")
    raise ValueError(f"no batch can be shown; {'; '.join(reasons)}")


def batch_table(batch: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """List field, type with shape, and range or first value.

    >>> import torch
    >>> batch_table({"labels": torch.tensor([[0, 1]]), "study_id": ["a", "b"]})
    [('labels', 'int64 (1, 2)', '0 to 1'), ('study_id', 'list (2)', 'a, ...')]
    """
    return [row for name, value in batch.items() for row in _rows(name, value)]


def _rows(name: str, value: Any) -> list[tuple[str, str, str]]:
    if isinstance(value, Tokens):
        return [row for part in value._fields for row in _rows(part, getattr(value, part))]
    if isinstance(value, Tensor):
        kind = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        if value.numel() == 0:
            return [(name, kind, "empty")]
        low, high = (float(end) for end in value.aminmax())
        return [(name, kind, f"{low:.4g} to {high:.4g}")]
    if isinstance(value, list):
        first = str(value[0]) if value else ""
        shown = first if len(first) <= _WIDTH else f"{first[:_WIDTH]}..."
        return [(name, f"list ({len(value)})", f"{shown}, ..." if len(value) > 1 else shown)]
    return [(name, type(value).__name__, str(value))]
