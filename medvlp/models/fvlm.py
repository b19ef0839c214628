"""fVLM: every organ of a volume and every text about an organ in one embedding space."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from medvlp.heads.anatomy_pool import AnatomyPool, intact_organs, organ_tokens
from medvlp.types import AnatomyOutput, Tokens
from medvlp.vision.anatomy_vit import AnatomyViT


class FVLM(nn.Module):
    """Embed the organs of volumes and texts so that their scalar products compare them.

    Args:
        vision: Tower from (image, num_scans) to tokens of several depths.
        text: Tower from tokens to features of each text.
        pooling: From the tokens of a volume to features per organ, projected.
        text_projection: From text features to the embedding.
        temperature_init: Start of the temperature, which divides the scalar products.
        temperature_range: In which `clamp_temperature` keeps it.

    Reference: fVLM (ICLR 2025, arXiv 2501.14548); its code, github.com/alibaba-damo-academy/fvlm.
    """

    def __init__(
        self,
        vision: AnatomyViT,
        text: nn.Module,
        *,
        pooling: AnatomyPool,
        text_projection: nn.Module,
        temperature_init: float = 0.07,
        temperature_range: Sequence[float] = (0.001, 0.5),
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.pooling = pooling
        self.text_projection = text_projection
        # One axis rather than none: sharding cuts parameters along their first axis.
        self.temperature = nn.Parameter(torch.tensor([temperature_init]))
        self.temperature_range = tuple(temperature_range)
        self._labels_seen = False

    @property
    def organs(self) -> tuple[str, ...]:
        """Names of the organs; number k has the label k + 1 in a mask."""
        return self.pooling.organs

    @property
    def logit_scale(self) -> Float[Tensor, "1"]:
        """The log of what multiplies scalar products, as other models state it."""
        return -self.temperature.log()

    def embed_image(
        self,
        image: Float[Tensor, "b c d h w"],
        num_scans: Int[Tensor, " b"],
        anatomy_mask: Integer[Tensor, "b _ _ _"],
        *,
        intact_only: bool = False,
    ) -> tuple[Float[Tensor, "b o e"], Bool[Tensor, "b o"]]:
        """Embed each organ; unit length, zero where it is absent.

        Args:
            image: One scan a study.
            num_scans: Ones.
            anatomy_mask: Organ number + 1, 0 elsewhere, on the grid of `image`.
            intact_only: Count an organ as present only where the border of the volume does not cut
                it, as in training.

        Returns:
            The embeddings, and which organs are present.

        Raises:
            ValueError: If the mask is on another grid than the image, or has more labels than the
                model has organs.
        """
        if anatomy_mask.shape[1:] != image.shape[2:]:
            raise ValueError(
                f"the anatomy mask has {tuple(anatomy_mask.shape[1:])} voxels, the image "
                f"{tuple(image.shape[2:])}; both must come from one recipe: prepare them together"
            )
        self._check_labels(anatomy_mask)
        flags = self.organ_tokens(anatomy_mask, intact_only=intact_only)
        present = flags.any(-1)
        features = self.pooling(self.vision(image, num_scans), flags)
        embedding = F.normalize(features, dim=-1)
        return embedding.masked_fill(~present[..., None], 0.0), present

    def organ_tokens(
        self, anatomy_mask: Integer[Tensor, "b _ _ _"], *, intact_only: bool = False
    ) -> Bool[Tensor, "b o t"]:
        """Tell which tokens each organ is pooled from; none where it does not count as present."""
        count = len(self.organs)
        flags = organ_tokens(anatomy_mask, self.vision.patch_embed.patch_size, count)
        if not intact_only:
            return flags
        return flags & intact_organs(anatomy_mask, count)[..., None]

    def embed_text(self, tokens: Tokens) -> Float[Tensor, "t e"]:
        """Embed texts; unit length."""
        return F.normalize(self.text_projection(self.text(tokens)), dim=-1)

    def forward(
        self,
        image: Float[Tensor, "b c d h w"],
        num_scans: Int[Tensor, " b"],
        anatomy_mask: Integer[Tensor, "b _ _ _"],
        tokens: Tokens,
        *,
        intact_only: bool = False,
    ) -> AnatomyOutput:
        """Embed organs and texts for an anatomy-wise loss."""
        embedding, present = self.embed_image(
            image, num_scans, anatomy_mask, intact_only=intact_only
        )
        return {
            "organ_embedding": embedding,
            "present": present,
            "text_embedding": self.embed_text(tokens),
            "temperature": self.temperature,
        }

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the temperature in its range; the published code does so in every training step."""
        low, high = self.temperature_range
        self.temperature.clamp_(low, high)

    def _check_labels(self, anatomy_mask: Tensor) -> None:
        """Refuse labels of other organs; on a device once only, for the host has to wait."""
        if self._labels_seen and anatomy_mask.device.type != "cpu":
            return
        self._labels_seen = True
        highest = int(anatomy_mask.max()) if anatomy_mask.numel() else 0
        if highest > len(self.organs):
            raise ValueError(
                f"the anatomy mask has a label {highest}, the model knows {len(self.organs)} "
                f"organs ({', '.join(self.organs)}); choose the recipe whose anatomies are those "
                "of the model, in its order"
            )
