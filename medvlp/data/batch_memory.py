"""Memory of a batch: a loader's worker fills what the main process sees, without another copy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def empty_batch(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate a batch and leave it unfilled; in a loader's worker, in shared memory.

    Args:
        shape: Of the whole batch.
        dtype: Of its numbers.
    """
    if get_worker_info() is None:  # NumPy asks for huge pages, which are filled twice as fast
        return torch.from_numpy(np.empty(tuple(shape), _numpy_dtype(dtype)))
    storage = torch.UntypedStorage._new_shared(max(1, math.prod(shape)) * dtype.itemsize)
    batch: Any = torch.empty(0, dtype=dtype)
    return batch.set_(storage, 0, tuple(shape))


def stack(rows: Sequence[Tensor]) -> Tensor:
    """Copy tensors of one shape into one batch."""
    batch = empty_batch((len(rows), *rows[0].shape), rows[0].dtype)
    # NumPy copies in one thread; torch's threads cost more than small volumes are worth
    np.stack([row.numpy() for row in rows], out=batch.numpy())
    return batch


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype
