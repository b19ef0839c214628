"""HCL-AL: the patch around a lesion and the descriptions of places in one embedding space."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvlp.models.two_tower import TwoTower
from medvlp.types import Tokens, TwoTowerOutput
from medvlp.vision.volume_cnn import VolumeCNN

INFERENCE_SCALE = 100.0
"""Multiplies cosines where a place is chosen, whatever scale was learned."""


class HCLAL(TwoTower):
    """Embed patches around lesions and texts so that their scalar products compare them.

    The nine published networks are compositions: a tower of `medvlp.vision.volume_cnn` or
    `LesionViT`, CLIP's or BERT's text tower, and perhaps a linear layer behind the texts.

    Args:
        vision: Tower from (patches, num_scans) to features of each.
        text: Tower from tokens to features of each text.
        image_projection: From image features to the embedding.
        text_fc: From text features to the embedding; None where they are it already. Trained even
            where the text tower is frozen.
        logit_scale_init: Start of the log scale; default log(1 / 0.07).
        forward_chunks: See `TwoTower`. Batch norm counts each chunk alone.
        compat: "published" lets the scale grow and shrink at will; None keeps it in [1, 100].

    Reference: HCL-AL (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197); its code,
    github.com/HerrBaum-YR/HCL-AL.
    """

    def __init__(
        self,
        vision: nn.Module,
        text: nn.Module,
        *,
        image_projection: nn.Module,
        text_fc: nn.Module | None = None,
        logit_scale_init: float = math.log(1 / 0.07),
        forward_chunks: int = 1,
        compat: Literal["published"] | None = None,
    ) -> None:
        super().__init__(
            vision,
            text,
            image_projection=image_projection,
            text_projection=nn.Identity() if text_fc is None else text_fc,
            logit_scale_init=logit_scale_init,
            forward_chunks=forward_chunks,
        )
        self.compat = compat
        for part in (vision, image_projection):
            part.apply(_start)

    def embed_lesion(self, lesion: Float[Tensor, "k c x y z"]) -> Float[Tensor, "k e"]:
        """Embed patches, one a lesion; unit length."""
        return self.embed_image(lesion, torch.ones(len(lesion), dtype=torch.int64))

    def lesion_encoder(self) -> "LesionEncoder":
        """Return what computes `embed_lesion` in evaluation, faster and without the text tower.

        It does not learn what the model learns later.
        """
        vision = self.vision.folded() if isinstance(self.vision, VolumeCNN) else self.vision
        return LesionEncoder(vision, self.image_projection).eval()

    def forward(
        self,
        image: Float[Tensor, "n c x y z"],
        num_scans: Int[Tensor, " b"],
        tokens: Tokens,
        negatives: Tokens | None = None,
    ) -> TwoTowerOutput:
        """Embed patches and texts for a contrastive loss.

        Args:
            image: Patches around lesions.
            num_scans: Ones.
            tokens: The text of each.
            negatives: Texts that are wrong, as many for each lesion, lesion by lesion. Equal ones
                are embedded once.
        """
        output = super().forward(image, num_scans, tokens)
        if negatives is not None:
            rows = self._embed_distinct(negatives)
            output["negative_embedding"] = rows.unflatten(0, (len(tokens.input_ids), -1))
        return output

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale within [1, 100]; the published code lets it be."""
        if self.compat is None:
            super().clamp_logit_scale()

    def _embed_distinct(self, texts: Tokens) -> Tensor:
        both = torch.cat((texts.input_ids, texts.attention_mask.to(texts.input_ids)), dim=1)
        distinct, row = both.unique(dim=0, return_inverse=True)
        input_ids, mask = distinct.tensor_split(2, dim=1)
        return self.embed_text(Tokens(input_ids, mask.bool()))[row]


class LesionEncoder(nn.Module):
    """Embed patches around lesions; see `HCLAL.lesion_encoder`.

    Args:
        vision: Tower from (patches, num_scans) to features of each.
        projection: From features to the embedding.
    """

    def __init__(self, vision: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision, self.projection = vision, projection

    def forward(self, lesion: Float[Tensor, "k c x y z"]) -> Float[Tensor, "k e"]:
        """Embed patches, one a lesion; unit length."""
        num_scans = torch.ones(len(lesion), dtype=torch.int64)
        return F.normalize(self.projection(self.vision(lesion, num_scans)), dim=-1)


def match_probabilities(
    lesion: Float[Tensor, "k e"], places: Float[Tensor, "t e"]
) -> Float[Tensor, "k t"]:
    """Say how probable each place is for each lesion, by the published constant scale.

    Args:
        lesion: L2-normalised embeddings.
        places: L2-normalised embeddings of the texts to choose from.

    >>> match_probabilities(torch.eye(2), torch.eye(2))
    tensor([[1.0000e+00, 3.7835e-44],
            [3.7835e-44, 1.0000e+00]])
    """
    return (INFERENCE_SCALE * (lesion.float() @ places.float().T)).softmax(dim=1)


def _start(module: nn.Module) -> None:
    """Start layers of the image side as published; positions of a ViT have their own start."""
    if isinstance(module, (nn.Conv3d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
