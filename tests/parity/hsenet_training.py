"""HSENet: losses of stages 1 and 2 over ranks."""

import math

import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.functional import pair_logits
from medvlp.losses.relation import relation_loss
from tests.distributed.ranks import run_ranks
from tests.losses.rank_losses import loss_and_gradients

from .registry import Case, handles

TOLERANCE = 1e-6  # of the case's README
LOSS = ClipLoss(local_loss=False, gather_with_grad=True)
SPLIT = ("image", "text")


@handles("hsenet", "loss_contrastive_relation")
def loss_contrastive_relation(case: Case) -> None:
    """Compare one process and every rank, and the relation of two matrices."""
    world, scale = case.config["world_size"], case.config["logit_scale"]
    whole = {name: case.inputs[f"{name}_features"] for name in SPLIT}
    shared = {"logit_scale": torch.tensor([math.log(scale)])}
    single = loss_and_gradients(0, LOSS, [whole | shared], [{}])
    _compare(case, {"single_loss": single["loss"], "loss": single["loss"]})
    _compare(case, _gradients("single_grad_", single, scale))
    logits = pair_logits(whole["image"], whole["text"], shared["logit_scale"])
    _compare(case, {"logits": logits})
    rows = {name: tensor.chunk(world) for name, tensor in whole.items()}
    parts = [{name: rows[name][rank] for name in SPLIT} | shared for rank in range(world)]
    for rank, found in enumerate(run_ranks(loss_and_gradients, world, LOSS, parts, [{}] * world)):
        _compare(case, _gradients(f"rank{rank}.grad_", found, scale) | {"loss": found["loss"]})
    student = case.inputs["student_logits"].clone().requires_grad_()
    relation = relation_loss(student, case.inputs["teacher_logits"])
    (gradient,) = torch.autograd.grad(relation, student)
    _compare(case, {"relation_loss": relation, "relation_grad_student": gradient})
    case.assert_all_compared()


def _gradients(prefix: str, found: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Name the gradients; ours is that of the logarithm of the published scale."""
    of_scale = found["logit_scale"].squeeze() / scale
    return {prefix + name: found[name] for name in SPLIT} | {prefix + "scale": of_scale}


def _compare(case: Case, found: dict[str, Tensor]) -> None:
    for name, tensor in found.items():
        case.assert_close(name, tensor, case.outputs[name], TOLERANCE)
