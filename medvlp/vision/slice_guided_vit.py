"""HSENet's second image tower: slices, seen by a 2D network, say which patches matter."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from medvlp.layers.attention import AttentionBackend
from medvlp.layers.guided_attention import GuidedAttention
from medvlp.vision.volume_vit import VolumeViT


class SliceGuidedViT(VolumeViT):
    """Weigh each patch token, position included, by a score before the first block.

    A patch looks at the features of the slices; what it finds gives a score between 0 and 1.

    Args:
        image_size: See `VolumeViT`, and so for all but the last two.
        patch_size: See there.
        width: See there.
        depth: See there.
        num_heads: See there.
        mlp_dim: See there.
        in_channels: See there.
        stem_stages: See there.
        attention: See there.
        activation_checkpointing: See there.
        slice_dim: Width of the slice features.
        slice_dropout: Probability in training, in the attention over the slices.

    Reference: HSENet (arXiv 2506.09634), second stage ("2D-enhanced 3D"); its code,
    github.com/YanzhaoShi/HSENet.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patch_size: Sequence[int],
        *,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        in_channels: int = 1,
        stem_stages: int = 0,
        attention: AttentionBackend = "sdpa",
        activation_checkpointing: bool = False,
        slice_dim: int = 768,
        slice_dropout: float = 0.1,
    ) -> None:
        super().__init__(
            image_size,
            patch_size,
            width=width,
            depth=depth,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            in_channels=in_channels,
            stem_stages=stem_stages,
            attention=attention,
            activation_checkpointing=activation_checkpointing,
        )
        self.slice_dim = slice_dim
        self.slice_attention = GuidedAttention(width, slice_dim, dropout=slice_dropout)
        self.patch_score = nn.Linear(width, 1)

    def forward(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        slice_features: Float[Tensor, "_ m f"] | None = None,
    ) -> Float[Tensor, "b e"]:
        """Return the class token of each volume, before projection.

        Raises:
            ValueError: If a study has several scans, a volume is not of the tower's size, or the
                slice features are missing or do not fit.
        """
        self._check_studies(image, num_scans)
        return self._class_token(self.guided(self.embed(image), slice_features))

    def tokens(
        self,
        image: Float[Tensor, "n c d h w"],
        slice_features: Float[Tensor, "_ m f"] | None = None,
    ) -> Float[Tensor, "n t e"]:
        """Return all tokens after the last LayerNorm: the class token, then depth, height, width.

        Raises:
            ValueError: If a volume is not of the tower's size, or the slice features are missing
                or do not fit.
        """
        return self._all_tokens(self.guided(self.embed(image), slice_features))

    def guided(
        self, patches: Float[Tensor, "n t e"], slice_features: Float[Tensor, "_ m f"] | None
    ) -> Float[Tensor, "n t e"]:
        """Weigh patch tokens by their scores."""
        return self.scores(patches, slice_features)[..., None] * patches

    def scores(
        self, patches: Float[Tensor, "n t e"], slice_features: Float[Tensor, "_ m f"] | None
    ) -> Float[Tensor, "n t"]:
        """Say between 0 and 1 how much each patch matters, whatever the others do.

        Raises:
            ValueError: If the slice features are missing or do not fit.
        """
        found = self.slice_attention(patches, self._checked(slice_features, len(patches)))
        return self.patch_score(found).sigmoid().squeeze(-1)

    def _checked(self, slice_features: Tensor | None, num_scans: int) -> Tensor:
        if slice_features is None:
            raise ValueError(
                "this tower needs the features of each scan's slices and none came; choose a data "
                "recipe with slice features (slice_encoder), or a model of the first stage"
            )
        count, num_slices, width = slice_features.shape
        if count != num_scans or not num_slices or width != self.slice_dim:
            raise ValueError(
                f"slice features of shape {tuple(slice_features.shape)} came for {num_scans} scans "
                f"(scans, slices, channels), the tower takes {self.slice_dim} channels; prepare "
                "them with the 2D encoder of this model, or set model.vision.slice_dim"
            )
        return slice_features
