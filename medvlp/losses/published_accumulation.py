"""The gradient of the scale under HLIP's published accumulation."""

from torch import Tensor, nn

from medvlp.types import TwoTowerOutput, VolumeBatch


class PublishedAccumulation(nn.Module):
    """Give scales and bias k times their gradient, as the published `--accum-freq k` does.

    There, k batches are forwarded without gradient, then again one by one against the cached
    features of the others, and the k gradients are summed. A batch's features enter one of the k
    with gradient, the scale enters all: weights of the towers get the gradient of the whole batch,
    the scale k times that. `TwoTower.forward_chunks` alone gives everything the gradient of the
    whole batch; this wrapper is for repeating published runs.

    Args:
        loss: Of all k batches together.
        accum_freq: The published k; set model.forward_chunks to it as well.

    Reference: github.com/Zch0414/hlip, training loop, with the lists of cached features emptied
    after every step (as published, it stops with an error for k > 1).
    """

    def __init__(self, loss: nn.Module, *, accum_freq: int) -> None:
        super().__init__()
        if accum_freq < 1:
            raise ValueError(f"accum_freq is {accum_freq}, expected 1 or more")
        self.loss = loss
        self.accum_freq = accum_freq

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return what the loss returns."""
        repeated = output.copy()
        repeated["logit_scale"] = self._repeat(output["logit_scale"])
        if "second_logit_scale" in output:
            repeated["second_logit_scale"] = self._repeat(output["second_logit_scale"])
        if "logit_bias" in output:
            repeated["logit_bias"] = self._repeat(output["logit_bias"])
        return self.loss(repeated, batch)

    def _repeat(self, parameter: Tensor) -> Tensor:
        return parameter + (self.accum_freq - 1) * (parameter - parameter.detach())
