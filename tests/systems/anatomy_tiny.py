"""A model of organs small enough to train in milliseconds, and batches for it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.models.fvlm import FVLM
from medvlp.optim.schedules import WarmupEpochCosine
from medvlp.systems.anatomy import AnatomySystem
from medvlp.types import Tokens, VolumeBatch
from medvlp.vision.anatomy_vit import AnatomyViT
from tests.systems.tiny import Text

ORGANS = ["lung", "heart", "aorta"]
SHAPE = (6, 6, 8)
PATCH = (2, 2, 4)


def make_model(seed: int = 0, *, dropout: float = 0.0) -> FVLM:
    torch.manual_seed(seed)
    vision = AnatomyViT(
        PatchEmbed3D(1, PATCH, 8), (3, 3, 2), depth=3, num_heads=2, taps=(1, 2), dropout=dropout
    )
    pooling = AnatomyPool(ORGANS, 8, embed_dim=4, num_heads=2, dropout=dropout)
    return FVLM(vision, Text(), pooling=pooling, text_projection=nn.Linear(6, 4))


def make_system(model: FVLM | None = None, **options: Any) -> AnatomySystem:
    settings: dict[str, Any] = {
        "loss": AnatomyContrastiveLoss(ORGANS),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2),
        "schedule": WarmupEpochCosine(2, num_epochs=2, start_factor=0.1),
        "no_decay": None,
        "window": SHAPE,
        "multiple": PATCH,
    }
    return AnatomySystem(model or make_model(), **settings | options)


def make_batch(
    step: int,
    rows: slice = slice(None),
    *,
    absent: Sequence[tuple[int, int]] = (),
    normal: bool = False,
) -> VolumeBatch:
    """Draw studies `rows` of the four of a global batch; `absent` lists (study, organ).

    In even studies organs are normal, in odd ones abnormal, unless all are `normal`.
    """
    generator = torch.Generator().manual_seed(step)
    count, organs = 4, len(ORGANS)
    image = torch.rand(count, 1, *SHAPE, generator=generator)
    ids = torch.randint(1, 20, (count, organs, 5), generator=generator)
    caption = torch.randint(0, 2**60, (count, organs), generator=generator)
    mask = torch.zeros(count, *SHAPE, dtype=torch.uint8)
    for organ in range(organs):
        mask[:, 1 + organ : 3 + organ, 1:-1, 1 + organ : 4 + organ] = organ + 1
    for study, organ in absent:
        mask[study][mask[study] == organ + 1] = 0
    names = [f"step{step}_study{k}" for k in range(count)][rows]
    healthy = torch.tensor([True, False] * (count // 2)) | normal
    here = len(names)
    return VolumeBatch(
        image=image[rows],
        anatomy_mask=mask[rows],
        num_scans=torch.ones(here, dtype=torch.int64),
        study_id=names,
        sample_id=names,
        patient_id=names,
        recipe_hash="tiny",
        tokens=Tokens(ids[rows].flatten(0, 1), torch.ones(here * organs, 5, dtype=torch.bool)),
        text_study=torch.arange(here).repeat_interleave(organs),
        text_organ=torch.arange(organs).repeat(here),
        text_normal=healthy[rows].repeat_interleave(organs),
        text_caption=caption[rows].flatten(),
    )
