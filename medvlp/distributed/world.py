"""Who am I among how many: answers without a process group too."""

import torch.distributed as dist


def world_size() -> int:
    """Count the ranks; 1 where `torch.distributed` is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank; 0 where `torch.distributed` is not initialised."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
