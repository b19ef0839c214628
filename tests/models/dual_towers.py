"""A two-token model of the real towers, small enough to train in milliseconds, and its inputs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import DualTokenPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.models.two_tower import TwoTower
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens
from medvlp.vision.hierarchical_vit import HierarchicalViT

BERT = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 8,
}


def make_dual_model(
    *, drop: float = 0.0, nested: bool = False, forward_chunks: int = 1, **text: Any
) -> TwoTower:
    """Build a model in training mode.

    Args:
        drop: Of patches, paths and hidden units; with any, scan positions are drawn as well.
        nested: Recompute single blocks in the backward pass.
        forward_chunks: See `TwoTower`.
        text: Options of the text tower.
    """
    torch.manual_seed(0)
    vision = HierarchicalViT(
        PatchEmbed3D(1, (2, 4, 4), 24),
        (2, 2, 2),
        levels=["slice", "scan", "study"],
        num_heads=2,
        num_register_tokens=1,
        scan_positions=ScanPositions(4 if drop else 1),
        patch_drop_prob=drop,
        drop_path_prob=drop,
        activation_checkpointing=nested,
        pooling=DualTokenPooling(),
    )
    probs = {"hidden_dropout_prob": drop, "attention_probs_dropout_prob": drop}
    return TwoTower(
        vision,
        HFEncoder(BERT | probs, activation_checkpointing=nested, **text),
        image_projection=nn.Linear(48, 8, bias=False),
        text_projection=nn.Linear(16, 8, bias=False),
        second_logit_scale_init=2.0,
        forward_chunks=forward_chunks,
    ).train()


def draw_study_inputs(num_scans: Sequence[int], seed: int) -> tuple[Tensor, Tokens]:
    """Draw the scans of studies, and two texts for each of them."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(sum(num_scans), 1, 4, 8, 8, generator=generator)
    ids = torch.randint(1, 40, (2 * len(num_scans), 6), generator=generator)
    return image, Tokens(ids, (ids > 5) | (torch.arange(6) == 0))
