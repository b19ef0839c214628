"""fVLM: every organ of a volume and every text about an organ in one embedding space."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from medvlp.heads.anatomy_pool import AnatomyPool, intact_organs, organ_tokens
from medvlp.models.chunked_forward import chunk_rows, chunk_tokens, embed_chunks
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
        forward_chunks: In training, forward volumes and texts in so many chunks: see `TwoTower`.

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
        forward_chunks: int = 1,
    ) -> None:
        super().__init__()
        if forward_chunks < 1:
            raise ValueError(
                f"forward_chunks is {forward_chunks}, expected 1 (all at once) or more"
            )
        self.forward_chunks = forward_chunks
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
        self._check_mask(image, anatomy_mask)
        flags = self.organ_tokens(anatomy_mask, intact_only=intact_only)
        return self._embed_organs(image, num_scans, flags), flags.any(-1)

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
        return self._embed_text(*tokens)

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
        in_chunks = self.forward_chunks > 1 and self.training and torch.is_grad_enabled()
        count = self.forward_chunks if in_chunks else 1
        self._check_mask(image, anatomy_mask)
        flags = self.organ_tokens(anatomy_mask, intact_only=intact_only)
        volumes = chunk_rows(count, image, num_scans, flags)
        return {
            "organ_embedding": embed_chunks(self._embed_organs, volumes),
            "present": flags.any(-1),
            "text_embedding": embed_chunks(self._embed_text, chunk_tokens(tokens, count)),
            "temperature": self.temperature,
        }

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the temperature in its range; the published code does so in every training step."""
        low, high = self.temperature_range
        self.temperature.clamp_(low, high)

    def _embed_organs(self, image: Tensor, num_scans: Tensor, flags: Tensor) -> Tensor:
        features = self.pooling(self.vision(image, num_scans), flags)
        absent = ~flags.any(-1, keepdim=True)
        return F.normalize(features, dim=-1).masked_fill(absent, 0.0)

    def _embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = Tokens(input_ids, attention_mask)
        return F.normalize(self.text_projection(self.text(tokens)), dim=-1)

    def _check_mask(self, image: Tensor, anatomy_mask: Tensor) -> None:
        """Refuse another grid, and labels of other organs.

        The latter on a device once only, for the host has to wait.
        """
        if anatomy_mask.shape[1:] != image.shape[2:]:
            raise ValueError(
                f"the anatomy mask has {tuple(anatomy_mask.shape[1:])} voxels, the image "
                f"{tuple(image.shape[2:])}; both must come from one recipe: prepare them together"
            )
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
