"""Which image-text pairs of one organ count as matching, and how much.

All rules take the patients that have the organ, over all ranks, and give one distribution over
columns per row: for the images over the texts, and for the texts over the images.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medvlp.losses.functional import normalise_rows

Targets = tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]
"""Targets of the images over the texts, and of the texts over the images."""


@dataclass(frozen=True)
class Teacher:
    """What a second model says of the same batch, on the same rows as the first's output.

    Attributes:
        text: Text embeddings.
        temperature: What divides its similarities.
        organ: Organ embeddings, where the rule needs them.
        step: The optimizer step, from 0, where the rule needs it.
    """

    text: Float[Tensor, "*rows e"]
    temperature: Float[Tensor, "1"]
    organ: Float[Tensor, "*organ_rows e"] | None = None
    step: int | None = None


@dataclass(frozen=True)
class OrganPairs:
    """One organ of the n patients that have it.

    Attributes:
        positives: Pairs that match: see `matching_pairs`.
        normal: Patients in whom the organ is normal.
        teacher: Its rows are these patients; None where there is no second model.
    """

    positives: Bool[Tensor, "n n"]
    normal: Bool[Tensor, " n"]
    teacher: Teacher | None = None


def matching_pairs(normal: Bool[Tensor, " n"], caption: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Match a patient with itself, with equal captions, and normal with normal.

    Args:
        normal: Whether the caption says that the organ is normal.
        caption: A hash of the whole caption.

    >>> matching_pairs(torch.tensor([True, True, False]), torch.tensor([1, 2, 3])).int().tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]

    Reference: fVLM (arXiv 2501.14548), false negatives of normal samples.
    """
    return (normal[:, None] & normal) | (caption[:, None] == caption)


def ramp_up(step: int, ramp_steps: int) -> float:
    """Grow from 0 to 1 over the first `ramp_steps` steps.

    >>> [ramp_up(step, 4) for step in (0, 1, 4, 9)], ramp_up(0, 0)
    ([0.0, 0.25, 1.0, 1.0], 1.0)
    """
    return min(1.0, step / ramp_steps) if ramp_steps > 0 else 1.0


def co_teaching_targets(
    positives: Bool[Tensor, "n n"],
    normal: Bool[Tensor, " n"],
    partner_logits: Float[Tensor, "n n"],
    *,
    weight: float,
) -> Float[Tensor, "n n"]:
    """Mix a partner's belief about abnormal pairs into the rows of abnormal patients.

    Rows of normal patients stay; at weight 0 all do.

    Args:
        positives: As `matching_pairs` says.
        normal: Patients in whom the organ is normal.
        partner_logits: Similarities of the second model over its temperature.
        weight: Share of the partner's softmax over the abnormal patients.
    """
    hard = normalise_rows(positives)
    both = ~normal[:, None] & ~normal
    belief = partner_logits.masked_fill(~both, -torch.inf).softmax(dim=1)
    return torch.where(normal[:, None], hard, torch.lerp(hard.to(belief), belief, weight))


def ema_text_targets(
    positives: Bool[Tensor, "n n"],
    normal: Bool[Tensor, " n"],
    teacher_logits: Float[Tensor, "n n"],
    *,
    weight: float,
) -> Float[Tensor, "n n"]:
    """Add the likeness of two abnormal texts, as a teacher sees it, to the matching pairs.

    Args:
        positives: As `matching_pairs` says.
        normal: Patients in whom the organ is normal.
        teacher_logits: Similarities of the teacher's texts over the temperature.
        weight: 1 is the published rule; at 0 only the matching pairs stay.
    """
    both = ~normal[:, None] & ~normal
    both = both & ~torch.eye(len(both), dtype=torch.bool, device=both.device)
    summed = positives + weight * both * teacher_logits.softmax(dim=1)
    return summed / summed.sum(dim=1, keepdim=True)


class AnatomyTargets:
    """The rule of fVLM's public code: matching pairs share the weight of their row.

    Attributes:
        needs_teacher: Whether the rule asks a second model.
    """

    needs_teacher = False

    def __call__(self, pairs: OrganPairs) -> Targets:
        """Return the same targets for both directions."""
        targets = normalise_rows(pairs.positives)
        return targets, targets


class CoTeachingTargets(AnatomyTargets):
    """Two models that soften each other's targets among abnormal patients.

    The paper names the method and alpha; its public code has neither. Our reading: the partner's
    softmax, in the direction of the row, over the abnormal patients.

    Args:
        alpha: Share of the partner after the ramp.
        ramp_steps: Optimizer steps until then; 0 starts with the full share.

    Reference: fVLM (arXiv 2501.14548), false negatives of abnormal samples.
    """

    needs_teacher = True

    def __init__(self, alpha: float = 0.5, *, ramp_steps: int = 0) -> None:
        _check_share("alpha", alpha)
        self.alpha = alpha
        self.ramp_steps = ramp_steps

    def __call__(self, pairs: OrganPairs) -> Targets:
        """Return the targets of both directions.

        Raises:
            ValueError: If the pairs lack the partner's embeddings or the step.
        """
        teacher = pairs.teacher
        if teacher is None or teacher.organ is None:
            raise ValueError(
                "co-teaching needs the organ and text embeddings of the partner model; give the "
                "loss a Teacher with both, or choose AnatomyTargets"
            )
        if self.ramp_steps > 0 and teacher.step is None:
            raise ValueError("co-teaching with a ramp needs Teacher.step; or set ramp_steps=0")
        weight = self.alpha * ramp_up(teacher.step or 0, self.ramp_steps)
        image, text, temperature = teacher.organ, teacher.text, teacher.temperature
        logits = (_logits(image, text, temperature), _logits(text, image, temperature))
        of_images, of_texts = (
            co_teaching_targets(pairs.positives, pairs.normal, each, weight=weight)
            for each in logits
        )
        return of_images, of_texts


class EmaTextTargets(AnatomyTargets):
    """A slowly moving copy of the text tower says how alike two abnormal captions are.

    The rule of the same group's later public code, RADAR; the same for both directions.

    Args:
        weight: Of the teacher's likeness; 1 is the published rule.
    """

    needs_teacher = True

    def __init__(self, weight: float = 1.0) -> None:
        _check_share("weight", weight)
        self.weight = weight

    def __call__(self, pairs: OrganPairs) -> Targets:
        """Return the same targets for both directions.

        Raises:
            ValueError: If the pairs lack the teacher's text embeddings.
        """
        teacher = pairs.teacher
        if teacher is None:
            raise ValueError(
                "EMA text targets need the text embeddings of a moving average of the text tower; "
                "give the loss a Teacher with them, or choose AnatomyTargets"
            )
        logits = _logits(teacher.text, teacher.text, teacher.temperature)
        targets = ema_text_targets(pairs.positives, pairs.normal, logits, weight=self.weight)
        return targets, targets


def _logits(
    rows: Float[Tensor, "n e"], columns: Float[Tensor, "n e"], temperature: Float[Tensor, "1"]
) -> Float[Tensor, "n n"]:
    """Compare in float32 or wider, also where autocast would not: temperatures are small."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        return rows.to(dtype) @ columns.to(dtype).T / temperature


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
