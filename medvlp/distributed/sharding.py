"""Fully sharded data parallelism (FSDP2): every rank holds a slice of every parameter."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor


def shard(model: nn.Module, mesh: DeviceMesh, *, forward_methods: Sequence[str] = ()) -> None:
    """Shard the blocks of a model and the rest of it, in place.

    The weights of the first rank win, as under DDP. Whoever calls other methods of the model than
    `forward` has to name them: only named ones see whole parameters.

    Args:
        model: On its device; its transformer blocks are the members of its `nn.ModuleList`s.
        mesh: One-dimensional, over the data-parallel ranks.
        forward_methods: Methods of the model that compute with its parameters.
    """
    _broadcast(model, mesh)
    model.register_forward_hook(_copy_parameters)
    for block in find_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in forward_methods:
        register_fsdp_forward_method(model, name)


def find_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the outermost `nn.ModuleList`s that hold parameters."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from find_blocks(child)


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that may be sharded; every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _broadcast(model: nn.Module, mesh: DeviceMesh) -> None:
    group = mesh.get_group()
    source = dist.get_global_rank(group, 0)
    for tensor in [*model.parameters(), *model.buffers()]:
        if not tensor.is_meta:
            dist.broadcast(tensor.data, source, group=group)


def _copy_parameters(model: nn.Module, inputs: Any, output: Any) -> Any:
    """Copy parameters that a forward hands out: whole ones are freed when it ends."""
    if not isinstance(output, dict):
        return output
    return {
        name: value.clone() if isinstance(value, nn.Parameter) else value
        for name, value in output.items()
    }
