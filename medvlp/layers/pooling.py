"""From the tokens of a study to its features.

A pooling module takes dense tokens (b n c), of which the first `num_prefix` are class and register
tokens, and returns one feature vector per study, or several.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ClsPooling(nn.Module):
    """Take the class token."""

    def forward(self, tokens: Float[Tensor, "b n c"], num_prefix: int) -> Float[Tensor, "b c"]:
        """Return the first prefix token."""
        if num_prefix < 1:
            raise ValueError("class-token pooling needs a class token, the sequence has none")
        return tokens[:, 0]


class MeanMaxPooling(nn.Module):
    """Concatenate the mean and the maximum over the patch tokens."""

    def forward(self, tokens: Float[Tensor, "b n c"], num_prefix: int) -> Float[Tensor, "b f"]:
        """Return features of twice the tokens' width."""
        patches = tokens[:, num_prefix:]
        return torch.cat((patches.mean(1), patches.amax(1)), dim=-1)


class DualTokenPooling(nn.Module):
    """Concatenate each prefix token with the mean of the patch tokens.

    Reference: the newer HLIP models ("dinotxt" pooling).
    """

    def forward(self, tokens: Float[Tensor, "b n c"], num_prefix: int) -> Float[Tensor, "b p f"]:
        """Return one feature vector of twice the tokens' width per prefix token."""
        prefix = tokens[:, :num_prefix]
        mean = tokens[:, num_prefix:].mean(1, keepdim=True)
        return torch.cat((prefix, mean.expand_as(prefix)), dim=-1)
