"""Drop patch tokens in training."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class PatchDropout(nn.Module):
    """Keep max(1, int(n (1 - p))) random patch tokens of every sequence in training.

    Args:
        prob: Share of tokens to drop, in [0, 1).
    """

    def __init__(self, prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= prob < 1.0:
            raise ValueError(f"patch dropout probability {prob} is outside [0, 1)")
        self.prob = prob

    def forward(
        self, patches: Float[Tensor, "s n c"], keep_indices: Int[Tensor, "s k"] | None = None
    ) -> Float[Tensor, "s k c"]:
        """Select tokens; all of them in evaluation.

        Args:
            patches: Patch tokens without class or register tokens.
            keep_indices: Selects these instead of drawing, whatever the mode.
        """
        if keep_indices is None:
            if not self.training or self.prob == 0.0:
                return patches
            keep_indices = self.draw(patches)
        # Upstream's order of the kept tokens is that of the draw, not of the image: a later cut
        # into finer sequences follows it.
        index = keep_indices.to(patches.device)[:, :, None].expand(-1, -1, patches.shape[-1])
        return patches.gather(1, index)

    def draw(self, patches: Float[Tensor, "s n c"]) -> Int[Tensor, "s k"]:
        """Draw the tokens to keep: the first k columns of the argsort of one normal draw."""
        num_sequences, length, _ = patches.shape
        kept = max(1, int(length * (1.0 - self.prob)))
        noise = torch.randn(num_sequences, length, device=patches.device)
        return noise.argsort(dim=1)[:, :kept]

    def extra_repr(self) -> str:
        """Show the probability in the printed model."""
        return f"prob={self.prob}"
