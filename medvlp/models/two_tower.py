"""Image tower and text tower in one embedding space."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvlp.models.chunked_forward import chunk_studies, chunk_tokens, embed_chunks
from medvlp.types import Tokens, TwoTowerOutput


class TwoTower(nn.Module):
    """Embed studies and texts so that their scalar products compare them.

    Args:
        vision: Tower from (image, num_scans) to features of each study.
        text: Tower from tokens to features of each text.
        image_projection: From image features to the embedding.
        text_projection: From text features to the embedding.
        logit_scale_init: Start of the log scale; default log(1 / 0.07).
        logit_bias_init: Start of the bias of a sigmoid loss; None for no bias.
        second_logit_scale_init: Start of the log scale of the second image token, for vision
            towers that pool to two: token 0 for short texts, token 1 for whole reports. None for
            towers of one token.
        forward_chunks: In training, forward studies and texts in so many chunks each, keeping the
            activations of one: any batch on any card, for the time of a second forward pass. The
            gradient is that of the whole batch.
    """

    def __init__(
        self,
        vision: nn.Module,
        text: nn.Module,
        *,
        image_projection: nn.Module,
        text_projection: nn.Module,
        logit_scale_init: float = 2.6592600,
        logit_bias_init: float | None = None,
        second_logit_scale_init: float | None = None,
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
        self.image_projection = image_projection
        self.text_projection = text_projection
        self._start_scale(logit_scale_init)
        self.logit_bias = _parameter(logit_bias_init)
        self.second_logit_scale = _parameter(second_logit_scale_init)

    def _start_scale(self, log_scale: float) -> None:
        # One axis rather than none: sharding cuts parameters along their first axis.
        self.logit_scale = nn.Parameter(torch.tensor([log_scale]))

    def embed_image(
        self, image: Float[Tensor, "n c *d h w"], num_scans: Int[Tensor, " b"]
    ) -> Float[Tensor, "b *p e"]:
        """Embed studies; unit length, with a token axis p where the tower pools to several."""
        return self._embed_image(image, num_scans)

    def embed_text(self, tokens: Tokens) -> Float[Tensor, "t e"]:
        """Embed texts; unit length."""
        return self._embed_text(*tokens)

    def forward(
        self, image: Float[Tensor, "n c *d h w"], num_scans: Int[Tensor, " b"], tokens: Tokens
    ) -> TwoTowerOutput:
        """Embed studies and texts for a contrastive loss."""
        return self._embed_both(chunk_studies(image, num_scans, self.num_chunks), tokens)

    @property
    def num_chunks(self) -> int:
        """Say in how many chunks the next forward goes."""
        in_chunks = self.forward_chunks > 1 and self.training and torch.is_grad_enabled()
        return self.forward_chunks if in_chunks else 1

    def _embed_both(self, studies: list[tuple[Tensor, ...]], tokens: Tokens) -> TwoTowerOutput:
        output: TwoTowerOutput = {
            "image_embedding": embed_chunks(self._embed_image, studies),
            "text_embedding": embed_chunks(self._embed_text, chunk_tokens(tokens, self.num_chunks)),
            "logit_scale": self.logit_scale,
        }
        if self.logit_bias is not None:
            output["logit_bias"] = self.logit_bias
        if self.second_logit_scale is not None:
            output["second_logit_scale"] = self.second_logit_scale
        return output

    def _embed_image(self, image: Tensor, num_scans: Tensor) -> Tensor:
        return F.normalize(self.image_projection(self.vision(image, num_scans)), dim=-1)

    def _embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = Tokens(input_ids, attention_mask)
        return F.normalize(self.text_projection(self.text(tokens)), dim=-1)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scales within [1, 100]; call after every optimizer step."""
        for scale in (self.logit_scale, self.second_logit_scale):
            if scale is not None:
                scale.clamp_(0.0, math.log(100.0))


def _parameter(start: float | None) -> nn.Parameter | None:
    return None if start is None else nn.Parameter(torch.tensor([start]))
