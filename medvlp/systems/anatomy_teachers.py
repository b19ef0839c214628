"""Second models beside a model of organs, which soften what its loss asks for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from medvlp.losses.anatomy_targets import Teacher
from medvlp.models.fvlm import FVLM
from medvlp.types import AnatomyOutput, Tokens, VolumeBatch


class AnatomyTeacher(nn.Module, ABC):
    """Tells the loss what it believes of a batch; a part of checkpoints like the model itself."""

    needs_unused_parameters = False
    """Whether parts of what is trained take no part in a step, which DDP has to be told."""

    @abstractmethod
    def begin(self, model: FVLM, init: Callable[[nn.Module], Any] | None) -> None:
        """Start, once: the model is filled, but not yet from a checkpoint to go on from.

        Args:
            model: That is evaluated.
            init: What it was filled by; None for a checkpoint or a random start.
        """

    def student(self, model: FVLM, step: int) -> FVLM:
        """Choose what is trained in this optimizer step."""
        return model

    @abstractmethod
    def tell(self, model: FVLM, batch: VolumeBatch, step: int) -> Teacher:
        """Say what it believes of the batch."""

    @abstractmethod
    def after_step(self, model: FVLM) -> None:
        """Follow the model after an optimizer step."""


class EmaTextTeacher(AnatomyTeacher):
    """A moving average of the text tower, for `EmaTextTargets`.

    It reads without dropout. The public code of RADAR averages once for every organ of a step, here
    it is once a step: n organs of momentum m are one step of momentum m ** n.

    Args:
        momentum: Share of the average that stays.

    Reference: github.com/alibaba-damo-academy/damo-radar.
    """

    def __init__(self, momentum: float = 0.995) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; it must be at least 0 and below 1")
        self.momentum = momentum

    def begin(self, model: FVLM, init: Callable[[nn.Module], Any] | None) -> None:
        """Copy the text tower and its projection."""
        self.text = deepcopy(model.text).requires_grad_(False).eval()
        self.text_projection = deepcopy(model.text_projection).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "EmaTextTeacher":
        """Stay without dropout."""
        return super().train(False)

    @torch.no_grad()
    def tell(self, model: FVLM, batch: VolumeBatch, step: int) -> Teacher:
        """Embed the texts."""
        features = self.text_projection(self.text(_tokens(batch)))
        embedding = nn.functional.normalize(features, dim=-1)
        return Teacher(embedding, temperature=model.temperature.detach(), step=step)

    @torch.no_grad()
    def after_step(self, model: FVLM) -> None:
        """Move towards the model."""
        for own, other in ((self.text, model.text), (self.text_projection, model.text_projection)):
            for average, weight in zip(own.parameters(), other.parameters(), strict=True):
                average.lerp_(weight.to(average.dtype), 1 - self.momentum)


class CoTeaching(AnatomyTeacher):
    """A second model of the same kind; the two are trained in turn, each taught by the other.

    Even optimizer steps train the model that is evaluated, odd ones the partner: so both see other
    samples in another order with other crops and flips, and a run needs twice the epochs. The one
    that teaches reads without dropout. This is a reading of the paper, whose public code has no
    second model.

    Args:
        partner: Built like the model; its random start is its own.

    Reference: fVLM (arXiv 2501.14548), false negatives of abnormal samples.
    """

    needs_unused_parameters = True

    def __init__(self, partner: FVLM) -> None:
        super().__init__()
        self.partner = partner

    def begin(self, model: FVLM, init: Callable[[nn.Module], Any] | None) -> None:
        """Fill the partner like the model.

        Raises:
            ValueError: If the two are then the same.
        """
        if init is not None:
            init(self.partner)
        pairs = zip(model.parameters(), self.partner.parameters(), strict=True)
        if all(torch.equal(own, other) for own, other in pairs):
            raise ValueError(
                "both models of the co-teaching start from the same weights and would learn the "
                "same; choose an init that leaves parts of them at random, as init=mae"
            )

    def student(self, model: FVLM, step: int) -> FVLM:
        """Take turns."""
        return self.partner if step % 2 else model

    @torch.no_grad()
    def tell(self, model: FVLM, batch: VolumeBatch, step: int) -> Teacher:
        """Let the model that is not trained in this step embed organs and texts."""
        other = model if step % 2 else self.partner
        was_training = other.training
        output = embed_batch(other.eval(), batch)
        other.train(was_training)
        return Teacher(
            output["text_embedding"],
            temperature=output["temperature"].detach(),
            organ=output["organ_embedding"],
            step=step,
        )

    def after_step(self, model: FVLM) -> None:
        """Keep the partner's temperature in its range."""
        self.partner.clamp_temperature()


def embed_batch(model: FVLM, batch: VolumeBatch) -> AnatomyOutput:
    """Embed the organs of a batch that no border cuts, and its texts.

    Raises:
        ValueError: If it has no masks or no texts.
    """
    if "anatomy_mask" not in batch:
        raise ValueError(
            "the batch has no anatomy_mask, which says where organs are; choose a recipe with "
            "organ masks and prepare the data with it"
        )
    mask = batch["anatomy_mask"]
    return model(batch["image"], batch["num_scans"], mask, _tokens(batch), intact_only=True)


def _tokens(batch: VolumeBatch) -> Tokens:
    if "tokens" not in batch:
        raise ValueError("the batch has no texts to learn from; choose a text sampler of organs")
    return batch["tokens"]
