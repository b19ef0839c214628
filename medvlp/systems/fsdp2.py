"""FSDP2 as a Trainer strategy: data parallelism over all ranks, whole checkpoints."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


class FSDP2Strategy(ModelParallelStrategy):
    """Shard parameters, gradients and optimizer state over all ranks.

    The system does the sharding, in `configure_model`. Checkpoints are consolidated into one file
    with the names of an unsharded run, so that any strategy reads them. Evaluation runs under
    `no_grad`: what is gathered under `inference_mode` could not be trained on afterwards.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Lay the mesh over all ranks, which are known only now."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        """Turn inference mode off, then set up the sharded model."""
        validation = trainer.fit_loop.epoch_loop.val_loop
        for loop in (validation, trainer.validate_loop, trainer.test_loop, trainer.predict_loop):
            loop.inference_mode = False
        super().setup(trainer)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a whole checkpoint, of any strategy, into the shards of model and optimizer.

        Every rank reads its slices from the file itself. (Lightning's own loader numbers moments
        in the order of the model, the optimizer in the order of its groups.)
        """
        path = self.broadcast(checkpoint_path)
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=weights_only)
        model, system = self.model, self.lightning_module
        assert model is not None
        assert system is not None
        own = model.state_dict()
        weights = {
            name: cut_like(tensor, own[name]) if name in own else tensor
            for name, tensor in content["state_dict"].items()
        }
        model.load_state_dict(weights, strict=system.strict_loading)
        saved = content.get("optimizer_states", [])
        for optimizer, state in zip(self.optimizers, saved, strict=False):
            optimizer.load_state_dict(cut_optimizer_state(state, optimizer))
        return content


def cut_optimizer_state(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Cut whole moments as the optimizer's parameters are cut.

    Args:
        state: As a plain optimizer with the same groups saves it: parameters numbered in the
            order of the groups.
        optimizer: Of sharded parameters.
    """
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parameter_of = dict(zip(numbers, parameters, strict=True))
    cut = {
        number: {name: cut_like(value, parameter_of[number]) for name, value in moments.items()}
        for number, moments in state["state"].items()
    }
    return {"state": cut, "param_groups": state["param_groups"]}


def cut_like(tensor: Any, reference: Tensor) -> Any:
    """Return this rank's shard where the reference is sharded and of the same shape."""
    if not isinstance(reference, DTensor) or getattr(tensor, "shape", None) != reference.shape:
        return tensor
    placed = tensor.to(reference.device)
    mesh, placements = reference.device_mesh, reference.placements
    return distribute_tensor(placed, mesh, placements, src_data_rank=None)
