"""HSENet's two pre-training stages: volumes, and what their slices show, beside reports."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvlp.models.chunked_forward import chunk_rows
from medvlp.models.two_tower import TwoTower
from medvlp.types import Tokens, TwoTowerOutput
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT

_LEAST_SCALE = 1e-4


class HSENetCLIP(TwoTower):
    """Embed volumes and reports; scalar products are multiplied by the raw scale.

    Args:
        vision: `VolumeViT` in the first stage, `SliceGuidedViT` in the second.
        text: Tower from tokens to features of each text.
        image_projection: From image features to the embedding.
        text_projection: From text features to the embedding.
        raw_scale_init: Start of the factor of scalar products. The published code starts it at
            log(1 / 0.07) and never takes its exponential.
        teacher: Frozen model of the first stage, for the relation loss of the second; its weights
            are a part of this model's. None for none.
        teacher_dropout: Run the teacher with dropout while this model trains, as the published
            code does.
        forward_chunks: See `TwoTower`.

    Reference: HSENet (arXiv 2506.09634); its code, github.com/YanzhaoShi/HSENet.
    """

    vision: VolumeViT

    def __init__(
        self,
        vision: VolumeViT,
        text: nn.Module,
        *,
        image_projection: nn.Module,
        text_projection: nn.Module,
        raw_scale_init: float = 2.6592600,
        teacher: TwoTower | None = None,
        teacher_dropout: bool = False,
        forward_chunks: int = 1,
    ) -> None:
        if raw_scale_init < _LEAST_SCALE:
            raise ValueError(
                f"raw_scale_init is {raw_scale_init}, expected at least {_LEAST_SCALE}"
            )
        super().__init__(
            vision,
            text,
            image_projection=image_projection,
            text_projection=text_projection,
            logit_scale_init=math.log(raw_scale_init),
            forward_chunks=forward_chunks,
        )
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()
        self.teacher_dropout = teacher_dropout

    def _start_scale(self, log_scale: float) -> None:
        self.raw_scale = nn.Parameter(torch.tensor([math.exp(log_scale)]))

    @property
    def logit_scale(self) -> Float[Tensor, "1"]:  # pyright: ignore
        """The log of what multiplies scalar products, as other models state it."""
        return self.raw_scale.log()

    @property
    def needs_slices(self) -> bool:
        """Whether the image tower takes the features of slices."""
        return isinstance(self.vision, SliceGuidedViT)

    def embed_image(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        slice_features: Float[Tensor, "_ m f"] | None = None,
    ) -> Float[Tensor, "b e"]:
        """Embed studies; unit length.

        Args:
            image: One scan a study.
            num_scans: Ones.
            slice_features: Of each scan's slices; a tower of the first stage leaves them alone.

        Raises:
            ValueError: If a study has several scans, or something does not suit the tower.
        """
        return self._embed_image(image, num_scans, *self._slices(slice_features))

    def forward(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        tokens: Tokens,
        slice_features: Float[Tensor, "_ m f"] | None = None,
    ) -> TwoTowerOutput:
        """Embed studies and texts for a contrastive loss."""
        rows = (image, num_scans, *self._slices(slice_features))
        in_step = len({len(part) for part in rows}) == 1  # else the tower says what is wrong
        studies = chunk_rows(self.num_chunks, *rows) if in_step else [rows]
        return self._embed_both(studies, tokens)

    @torch.no_grad()
    def teach(
        self, image: Float[Tensor, "n c d h w"], num_scans: Int[Tensor, " b"], tokens: Tokens
    ) -> TwoTowerOutput:
        """Embed studies and texts by the teacher.

        Raises:
            ValueError: If there is none.
        """
        if self.teacher is None:
            raise ValueError(
                "this model has no teacher, which the relation loss asks for; choose "
                "loss=clip_relation, which brings one, or another loss"
            )
        return self.teacher(image, num_scans, tokens)

    def train(self, mode: bool = True) -> "HSENetCLIP":
        """Switch to training; the teacher stays without dropout."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.train(mode and self.teacher_dropout)
        return self

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale positive, so that it has a log; the published code lets it be."""
        self.raw_scale.clamp_(min=_LEAST_SCALE)

    def _slices(self, slice_features: Tensor | None) -> tuple[Tensor, ...]:
        if slice_features is None or not self.needs_slices:
            return ()
        return (slice_features,)

    def _embed_image(self, image: Tensor, num_scans: Tensor, *slices: Tensor) -> Tensor:
        features = self.vision(image, num_scans, *slices)
        return F.normalize(self.image_projection(features), dim=-1)
