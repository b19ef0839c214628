"""HSENet's published networks: which model of ours each is, and its rule table.

| repository on huggingface.co | is | tensors |
|---|---|---|
| Yanzhaoshi/HSENet_CLIP | the first stage, `hsenet_stage1` | 342 |
| Yanzhaoshi/HSENet-2E3-CLIP | the second, its teacher inside, `hsenet_stage2` | 696 |
| microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 | has the slice encoder inside | 150 |

The image towers have 87,389,184 parameters in 138 tensors and 89,753,857 in 150.
"""

from torch import nn

from medvlp.checkpoints.adapter import RuleTable
from medvlp.checkpoints.hsenet_rules import CLIP, CLIP_ALONE
from medvlp.layers.patch_embed import PerceptronPatchEmbed
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.text.hf_encoder import HFEncoder
from medvlp.vision.volume_vit import VolumeViT

EXPECTED = "R@100 39.85 % of CT-RATE's 3,039 validation volumes (abstract; direction not stated)"
"""Published of the second stage."""


def is_hsenet_clip(model: nn.Module) -> bool:
    """Tell whether a contrastive model has the parts that the rule table names."""
    return (
        isinstance(model, HSENetCLIP)
        and isinstance(model.vision.patch_embed, PerceptronPatchEmbed)
        and isinstance(model.text, HFEncoder)
        and all(isinstance(p, nn.Linear) for p in (model.image_projection, model.text_projection))
    )


def clip_table(model: nn.Module) -> RuleTable:
    """Choose the rule table of a contrastive model: with its teacher, or without."""
    return CLIP_ALONE if getattr(model, "teacher", None) is None else CLIP


def are_hsenet_towers(model: nn.Module) -> bool:
    """Tell whether these are both image towers alone."""
    return (
        isinstance(model, nn.ModuleDict)
        and set(model) == {"vision", "guided_vision"}
        and all(isinstance(tower, VolumeViT) for tower in model.values())
    )
