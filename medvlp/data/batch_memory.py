"""Memory of a batch: a loader's worker fills what the main process sees, without another copy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.recycled_memory import WorkerMemory

_SMALL = 2**20  # PyTorch's own way is as fast below
_recycled: WorkerMemory | None = None


def use_recycled(memory: WorkerMemory) -> None:
    """Let `empty_batch` in this process, a loader's worker, take from its own memory."""
    global _recycled
    _recycled = memory


def empty_batch(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate a batch and leave it unfilled; in a loader's worker, in memory used before.

    Args:
        shape: Of the whole batch.
        dtype: Of its numbers.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if _recycled is None or num_bytes < _SMALL:
        # NumPy asks for huge pages, which are filled twice as fast
        return torch.from_numpy(np.empty(tuple(shape), _numpy_dtype(dtype)))
    batch: Any = torch.empty(0, dtype=dtype)
    return batch.set_(_recycled.take(num_bytes), 0, tuple(shape))


def stack(rows: Sequence[Tensor]) -> Tensor:
    """Copy tensors of one shape into one batch."""
    batch = empty_batch((len(rows), *rows[0].shape), rows[0].dtype)
    # NumPy copies in one thread; torch's threads cost more than small volumes are worth
    np.stack([row.numpy() for row in rows], out=batch.numpy())
    return batch


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype
