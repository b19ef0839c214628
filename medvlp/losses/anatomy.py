"""Contrastive loss of each organ with what the report says about it, over all ranks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvlp.distributed.gather import gather_ragged, gather_sizes
from medvlp.losses.anatomy_targets import (
    AnatomyTargets,
    OrganPairs,
    Targets,
    Teacher,
    matching_pairs,
)
from medvlp.losses.functional import cross_entropy_sum
from medvlp.types import AnatomyOutput, VolumeBatch

TEMPERATURE_RANGE = (0.001, 0.5)
"""Where fVLM's public code holds the temperature in training."""


@dataclass(frozen=True)
class _Facts:
    """Which patients take part, on the CPU: of one rank, or of all.

    Attributes:
        present: The organ counts and has a caption.
        normal: The caption says that the organ is normal.
        caption: Equal numbers, equal captions.
        row: Of the organ's text among the rank's texts; -1 where there is none.
    """

    present: Bool[Tensor, "b o"]
    normal: Bool[Tensor, "b o"]
    caption: Int[Tensor, "b o"]
    row: Int[Tensor, "b o"]


def used_organs(present: Bool[Tensor, "b o"], normal: Bool[Tensor, "b o"]) -> Bool[Tensor, " o"]:
    """Say which organs teach something: those that some patient has, and abnormal.

    Args:
        present: Of all ranks.
        normal: Of all ranks.

    >>> used_organs(torch.tensor([[True, True, False]]), torch.tensor([[False, True, False]]))
    tensor([ True, False, False])
    """
    return (present & ~normal).any(dim=0)


class AnatomyContrastiveLoss(nn.Module):
    """Sum over organs of the symmetric cross entropy between organ and caption embeddings.

    An organ is left out where no patient of any rank has it abnormal, and where all pairs of it
    match. Patients without a caption of an organ take no part in it. Ranks may bring different
    numbers of patients. All ranks gather the same number of times whatever they hold, and one with
    nothing to learn from returns a zero that is connected to the graph: none waits for another.
    (The public code skips the backward pass there, and hangs unless all ranks do.)

    Args:
        organs: Names, in the order of the model's.
        gradient: "published" takes the rows of other ranks as constants, so that the averaged
            gradient is 1 / world_size of one process's, and leaves an organ out on a rank where
            no patient has it. "full" lets gradients through the gather and counts every organ on
            every rank: averaged over ranks it is one process's.
        targets: Which pairs count as matching; by default the rule of the public code.

    Reference: fVLM (arXiv 2501.14548) and github.com/alibaba-damo-academy/fvlm.
    """

    def __init__(
        self,
        organs: Sequence[str],
        *,
        gradient: Literal["published", "full"] = "published",
        targets: AnatomyTargets | None = None,
    ) -> None:
        super().__init__()
        if gradient not in ("published", "full"):
            raise ValueError(f"gradient is {gradient!r}; choose 'published' or 'full'")
        self.organs = tuple(organs)
        self.is_full = gradient == "full"
        self.targets = targets or AnatomyTargets()

    def forward(
        self, output: AnatomyOutput, batch: VolumeBatch, *, teacher: Teacher | None = None
    ) -> dict[str, Tensor]:
        """Return the loss under "total" and, by name, that of each organ that was used.

        In training the temperature is clamped in place first.

        Args:
            output: Of the model.
            batch: Says of which study and organ each text is, which are normal, which equal.
            teacher: Of a second model, for targets that ask for one.

        Raises:
            ValueError: If texts and organs do not fit together.
        """
        if self.training:
            with torch.no_grad():  # as published: the gradient is that at the clamped value
                output["temperature"].clamp_(*TEMPERATURE_RANGE)
        device = output["present"].device
        own = self._facts(output, batch)
        counts = [size for (size,) in gather_sizes([len(own.present)], device)]
        everyone = _gather_facts(own, counts, device)
        organ, text = (
            gather_ragged(rows, counts, gradient="all" if self.is_full else "own")
            for rows in (output["organ_embedding"], _by_organ(output["text_embedding"], own))
        )
        teacher = None if teacher is None else _gather_teacher(teacher, own, counts)
        used = used_organs(everyone.present, everyone.normal)
        if not self.is_full:
            used &= own.present.any(dim=0)
        losses: dict[str, Tensor] = {}
        for k in used.nonzero().flatten().tolist():
            pairs, here = _pairs(everyone, k, teacher, device)
            if pairs is not None:
                with torch.no_grad():
                    targets = self.targets(pairs)
                losses[self.organs[k]] = organ_loss(
                    organ[here, k], text[here, k], output["temperature"], targets
                )
        return {"total": _zero(output) + sum(losses.values()), **losses}

    def _facts(self, output: AnatomyOutput, batch: VolumeBatch) -> _Facts:
        num_texts, (num_studies, num_organs) = (
            len(output["text_embedding"]),
            output["present"].shape,
        )
        if num_organs != len(self.organs):
            raise ValueError(
                f"the model has {num_organs} organs, the loss {len(self.organs)} "
                f"({', '.join(self.organs)}); give both the same list"
            )
        if not (
            "text_study" in batch
            and "text_organ" in batch
            and "text_normal" in batch
            and "text_caption" in batch
        ):
            raise ValueError(
                "the batch lacks text_study, text_organ, text_normal or text_caption: it does not "
                "say which organ a text is about; choose data with captions of organs, or loss=clip"
            )
        study, organ = batch["text_study"].cpu(), batch["text_organ"].cpu()
        normal, caption = batch["text_normal"].cpu(), batch["text_caption"].cpu()
        place = study * num_organs + organ
        if len(study) != num_texts or len(place.unique()) != num_texts:
            raise ValueError(
                f"{num_texts} text embeddings came for {len(place.unique())} organs of studies "
                f"({len(study)} texts in the batch); this loss takes one text per organ and study"
            )
        shape = (num_studies, num_organs)
        row = torch.full(shape, -1).index_put_((study, organ), torch.arange(num_texts))
        return _Facts(
            output["present"].cpu() & (row >= 0),
            torch.zeros(shape, dtype=torch.bool).index_put_((study, organ), normal),
            torch.zeros(shape, dtype=torch.int64).index_put_((study, organ), caption),
            row,
        )


def organ_loss(
    organ: Float[Tensor, "n e"],
    text: Float[Tensor, "n e"],
    temperature: Float[Tensor, "1"],
    targets: Targets,
) -> Float[Tensor, ""]:
    """Average the cross entropies organ-to-text and text-to-organ against soft targets.

    Args:
        organ: L2-normalised embeddings.
        text: L2-normalised embeddings.
        temperature: Divides similarities.
        targets: Of the organs over the texts, and of the texts over the organs.

    >>> organ_loss(torch.eye(2), torch.eye(2), torch.ones(1), (torch.eye(2), torch.eye(2)))
    tensor(0.3133)
    """
    dtype = torch.promote_types(organ.dtype, torch.float32)
    with torch.autocast(organ.device.type, enabled=False):
        organ, text = organ.to(dtype), text.to(dtype)
        # Two products, as published: a transposed one differs in the last bit, and the gradient
        # of a small temperature shows it.
        of_organs = cross_entropy_sum(organ @ text.T / temperature, targets[0].to(dtype))
        of_texts = cross_entropy_sum(text @ organ.T / temperature, targets[1].to(dtype))
        return (of_organs / len(organ) + of_texts / len(organ)) / 2


def _gather_facts(own: _Facts, counts: list[int], device: torch.device) -> _Facts:
    """Collect the facts of all ranks; the only wait for the device beside that for the sizes."""
    packed = torch.stack([own.present.long(), own.normal.long(), own.caption, own.row], dim=1)
    everyone = gather_ragged(packed.to(device), counts, gradient="none").cpu()
    present, normal, caption, row = everyone.unbind(1)
    return _Facts(present.bool(), normal.bool(), caption, row)


def _by_organ(text: Float[Tensor, "t e"], own: _Facts) -> Float[Tensor, "b o e"]:
    """Lay texts out as organs of studies; zero where there is none."""
    has_text = own.row.flatten() >= 0
    places = has_text.nonzero().flatten().to(text.device)
    rows = own.row.flatten()[has_text].to(text.device)
    laid_out = text.new_zeros(own.row.numel(), text.shape[1]).index_copy(0, places, text[rows])
    return laid_out.unflatten(0, own.row.shape)


def _gather_teacher(teacher: Teacher, own: _Facts, counts: list[int]) -> Teacher:
    text = gather_ragged(_by_organ(teacher.text, own), counts, gradient="none")
    if teacher.organ is None:
        return replace(teacher, text=text)
    return replace(teacher, text=text, organ=gather_ragged(teacher.organ, counts, gradient="none"))


def _pairs(
    everyone: _Facts, organ: int, teacher: Teacher | None, device: torch.device
) -> tuple[OrganPairs | None, Int[Tensor, " n"]]:
    """Return the pairs of an organ, none where all match, and the rows of its patients."""
    here = everyone.present[:, organ].nonzero().flatten()
    normal = everyone.normal[here, organ]
    positives = matching_pairs(normal, everyone.caption[here, organ])
    here = here.to(device)
    if bool(positives.all()):
        return None, here
    if teacher is not None:
        seen = None if teacher.organ is None else teacher.organ[here, organ]
        teacher = replace(teacher, text=teacher.text[here, organ], organ=seen)
    return OrganPairs(positives.to(device), normal.to(device), teacher), here


def _zero(output: AnatomyOutput) -> Float[Tensor, ""]:
    """Return 0 with a gradient of 0 for everything that the loss may depend on.

    Empty slices: 0 times a value that is not finite would not be 0.
    """
    empty = output["organ_embedding"][:0].sum() + output["text_embedding"][:0].sum()
    return empty.float() + output["temperature"][:0].sum()
