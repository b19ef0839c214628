"""Keep the similarities of a batch close to those that a frozen teacher sees in it."""

from jaxtyping import Float
from torch import Tensor, nn

from medvlp.distributed.gather import gather
from medvlp.losses.functional import pair_logits
from medvlp.types import TwoTowerOutput, VolumeBatch


def relation_loss(
    student_logits: Float[Tensor, "r k"], teacher_logits: Float[Tensor, "r k"]
) -> Float[Tensor, ""]:
    """Average the squared difference of the two models' similarities over all pairs.

    The published code averages over both directions of the same matrix, which is the same number.

    Args:
        student_logits: Scaled similarities, images in rows and texts in columns.
        teacher_logits: Of the same pairs; a constant.

    >>> from torch import eye, zeros
    >>> relation_loss(eye(2), zeros(2, 2))
    tensor(0.5000)

    Reference: HSENet (arXiv 2506.09634), semantic consistency of stage 2.
    """
    return (student_logits - teacher_logits.detach()).square().mean()


class RelationLoss(nn.Module):
    """A contrastive loss and, in the first steps of a run, the relation to a frozen teacher.

    The weight of the relation falls linearly to zero over `num_steps` optimizer steps. The
    teacher's similarities are scaled by the student's temperature, as published.

    Each rank compares the rows of its own images with the texts of all ranks: memory is linear in
    the local batch, and averaged over ranks loss and gradient are those of one process. (The
    published code forms the whole matrix on every rank: the same gradients of the features.)

    Args:
        contrastive: Loss of the student, with "total" among what it returns.
        weight: Of the relation at step 0.
        num_steps: Optimizer steps until the weight is zero.

    Raises:
        ValueError: If weight or steps are negative.
    """

    def __init__(
        self, contrastive: nn.Module, *, weight: float = 0.1, num_steps: int = 5000
    ) -> None:
        super().__init__()
        if weight < 0 or num_steps < 0:
            raise ValueError(
                f"weight {weight} and num_steps {num_steps} came for the relation loss; neither "
                "can be negative"
            )
        self.contrastive = contrastive
        self.weight = weight
        self.num_steps = num_steps

    def weight_at(self, step: int) -> float:
        """Say how much the relation counts in an optimizer step; at 0 no teacher is needed.

        >>> loss = RelationLoss(nn.Identity())
        >>> [round(loss.weight_at(step), 5) for step in (0, 1250, 4999, 5000)]
        [0.1, 0.075, 2e-05, 0.0]
        """
        return self.weight * (1 - step / self.num_steps) if step < self.num_steps else 0.0

    def forward(
        self,
        output: TwoTowerOutput,
        batch: VolumeBatch,
        *,
        teacher: TwoTowerOutput | None = None,
        step: int = 0,
    ) -> dict[str, Tensor]:
        """Return the loss under "total", and where there is a teacher its two parts.

        Args:
            output: Of the student.
            batch: For the contrastive loss.
            teacher: What the teacher says of the same batch; None for the contrastive loss alone.
            step: The optimizer step, from 0.
        """
        losses: dict[str, Tensor] = self.contrastive(output, batch)
        if teacher is None:
            return losses
        scale = output["logit_scale"]
        relation = relation_loss(_own_rows(output, scale), _own_rows(teacher, scale.detach()))
        total = losses["total"] + self.weight_at(step) * relation
        parts = {"contrastive": losses["total"].detach(), "relation": relation.detach()}
        return losses | parts | {"total": total}


def _own_rows(output: TwoTowerOutput, scale: Tensor) -> Tensor:
    """Score the images of this rank against the texts of all."""
    return pair_logits(output["image_embedding"], gather(output["text_embedding"]), scale)
