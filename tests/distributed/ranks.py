"""Runs a function on several gloo processes of this machine and returns what each returned."""

import multiprocessing
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

REPOSITORY = Path(__file__).parents[2]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["torch", "torch.distributed", "lightning.pytorch"])


def run_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Call `function(rank, *args)` on every rank of one process group; results in rank order.

    The function must be importable by name and return something that `torch.save` takes.
    """
    return _start(_with_group, function, world_size, args)


def run_launched(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Call `function(rank, *args)` on processes that look as if torchrun had started them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return _start(_with_environment, function, world_size, args, port)


def _start(entry: Callable[..., Any], function: Callable[..., Any], world: int, *rest: Any) -> Any:
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))  # children import the function by its name
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(
            entry, args=(function, world, folder, *rest), nprocs=world, start_method="forkserver"
        )
        results = [Path(folder) / f"{rank}.pt" for rank in range(world)]
        return [torch.load(path, weights_only=True) for path in results]


def _with_group(
    rank: int, function: Callable[..., Any], world: int, folder: str, args: tuple[Any, ...]
) -> None:
    _settle()
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    result = function(rank, *args)
    torch.save(result, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _with_environment(
    rank: int,
    function: Callable[..., Any],
    world: int,
    folder: str,
    args: tuple[Any, ...],
    port: int,
) -> None:
    _settle()
    launched = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": world}
    launched |= {"LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    launched |= {"TORCHELASTIC_RUN_ID": "tests"}
    os.environ.update({name: str(value) for name, value in launched.items()})
    result = function(rank, *args)
    torch.save(result, f"{folder}/{rank}.pt")
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _settle() -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # gloo warns about unknown host names
    torch.set_num_threads(1)
    warnings.simplefilter("error")
