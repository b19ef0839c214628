"""Batches on their way to the device."""

from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from medvlp.types import Conversation, ImageBatch, Tokens, VolumeBatch

Batch = TypeVar("Batch", VolumeBatch, ImageBatch)

# it is the host that cuts sequences, sorts texts and picks organs
_ON_HOST = {"num_scans", "text_kind", "text_organ", "text_normal", "text_caption"}


def move(batch: Batch, device: torch.device) -> Batch:
    """Move what the device computes with; what the host reads and what is no tensor stay."""
    moved = {
        name: value if name in _ON_HOST else _moved(value, device) for name, value in batch.items()
    }
    return cast(Batch, moved)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Tokens | Conversation):
        return type(value)(*(part.to(device, non_blocking=True) for part in value))
    return value
