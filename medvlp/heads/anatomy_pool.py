"""From the tokens of a volume to one feature vector per organ, by the organ's mask."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from medvlp.layers.patch_embed import patchify
from medvlp.types import Size3D


class AnatomyPool(nn.Module):
    """Let each organ's learnt query attend to the tokens that the organ covers, and project.

    The attention is shared by all organs, the projection is each organ's own.

    Args:
        organs: Names; number k here has the label k + 1 in a mask.
        dim: Width of the tokens.
        embed_dim: Width of the embedding.
        num_heads: Of the attention; must divide `dim`.
        dropout: Probability of an attention weight to be dropped in training.

    Raises:
        ValueError: If there is no organ, or one twice.

    Reference: fVLM (ICLR 2025, arXiv 2501.14548); its code, github.com/alibaba-damo-academy/fvlm.
    """

    def __init__(
        self,
        organs: Sequence[str],
        dim: int,
        *,
        embed_dim: int,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not organs or len(set(organs)) != len(organs):
            raise ValueError(f"organs {list(organs)}: give at least one, and each once")
        self.organs = tuple(organs)
        self.query = nn.Parameter(torch.zeros(len(organs), dim))
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.projections = nn.ModuleList(nn.Linear(dim, embed_dim) for _ in organs)

    def forward(
        self, levels: Float[Tensor, "b v t c"], organ_tokens: Bool[Tensor, "b o t"]
    ) -> Float[Tensor, "b o e"]:
        """Return the features of each organ after its projection; what is absent has no meaning.

        Args:
            levels: Tokens of several depths.
            organ_tokens: Which tokens an organ covers.
        """
        pooled = self.pool(levels, organ_tokens)
        rows = zip(self.projections, pooled.unbind(1), strict=True)
        return torch.stack([projection(features) for projection, features in rows], dim=1)

    def pool(
        self, levels: Float[Tensor, "b v t c"], organ_tokens: Bool[Tensor, "b o t"]
    ) -> Float[Tensor, "b o c"]:
        """Return the features of each organ before its projection.

        All organs of all patients go in one call. An organ without tokens attends to all, so
        that no number is undefined and every parameter takes part in the step of every rank.
        """
        num_levels = levels.shape[1]
        absent = ~organ_tokens.any(-1, keepdim=True)
        hidden = ~(organ_tokens | absent).repeat(1, 1, num_levels)
        tokens = rearrange(levels, "b v t c -> b (v t) c")
        query = self.query.expand(len(tokens), -1, -1)
        mask = hidden.repeat_interleave(self.attention.num_heads, dim=0)
        return self.attention(query, tokens, tokens, attn_mask=mask, need_weights=False)[0]


def organ_tokens(
    anatomy_mask: Integer[Tensor, "b d h w"], patch_size: Size3D, num_organs: int
) -> Bool[Tensor, "b o t"]:
    """Tell which patch tokens hold at least one voxel of each organ.

    Other labels than 1 to `num_organs` count as background; what does not fill a patch is left out.

    >>> organ_tokens(torch.tensor([[[[0, 0, 2, 1]]]]), (1, 1, 2), 2)
    tensor([[[False,  True],
             [False,  True]]])
    """
    patches = patchify(anatomy_mask[:, None], patch_size).flatten(1, 3).long()
    labels = torch.where((patches > 0) & (patches <= num_organs), patches, 0)
    flags = labels.new_zeros((*labels.shape[:2], num_organs + 1), dtype=torch.bool)
    return flags.scatter_(2, labels, True)[..., 1:].transpose(1, 2)


def intact_organs(anatomy_mask: Integer[Tensor, "b d h w"], num_organs: int) -> Bool[Tensor, "b o"]:
    """Tell which organs occur in a crop and on none of its six faces.

    Reference: the training step of fVLM's code.
    """
    inside = _labels_in(anatomy_mask, num_organs)
    faces = [anatomy_mask.select(axis, end) for axis in (1, 2, 3) for end in (0, -1)]
    cut = [_labels_in(face, num_organs) for face in faces]
    return inside & ~torch.stack(cut).any(0)


def _labels_in(mask: Tensor, num_organs: int) -> Tensor:
    labels = mask.flatten(1).long()
    labels = torch.where((labels > 0) & (labels <= num_organs), labels, 0)
    found = labels.new_zeros((len(labels), num_organs + 1), dtype=torch.bool)
    return found.scatter_(1, labels, True)[:, 1:]
