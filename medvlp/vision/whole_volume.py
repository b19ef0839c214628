"""One feature vector of a whole volume from the tower that fVLM pools organs from."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvlp.vision.anatomy_vit import AnatomyViT


class WholeVolumeViT(nn.Module):
    """Let one learnt query attend to all tokens of all levels: `AnatomyPool` without organs.

    The global baseline of anatomy-wise training, as the image tower of a `TwoTower`.

    Args:
        tower: From volumes to tokens of several depths.
        num_heads: Of the attention; must divide the tokens' width.
    """

    def __init__(self, tower: AnatomyViT, *, num_heads: int = 4) -> None:
        super().__init__()
        self.tower = tower
        self.query = nn.Parameter(torch.zeros(1, 1, tower.embed_dim))
        self.attention = nn.MultiheadAttention(tower.embed_dim, num_heads, batch_first=True)

    def forward(
        self, image: Float[Tensor, "n c d h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        """Return the features of each study, which has one scan."""
        tokens = rearrange(self.tower(image, num_scans), "b v t c -> b (v t) c")
        query = self.query.expand(len(tokens), -1, -1)
        return self.attention(query, tokens, tokens, need_weights=False)[0][:, 0]
