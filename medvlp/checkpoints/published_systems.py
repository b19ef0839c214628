"""The systems whose published weights we know: one entry each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from medvlp.checkpoints.adapter import Rule, RuleTable
from medvlp.checkpoints.fvlm import FVLM_TABLE, is_fvlm
from medvlp.checkpoints.fvlm import VISION as FVLM_VISION
from medvlp.checkpoints.fvlm import VISION_PREFIX as FVLM_PREFIX
from medvlp.checkpoints.fvlm_facts import fvlm_facts
from medvlp.checkpoints.hcl_al_facts import hcl_al_facts
from medvlp.checkpoints.hcl_al_rules import HCL_AL
from medvlp.checkpoints.hcl_al_rules import VISION as HCL_AL_VISION
from medvlp.checkpoints.hcl_al_rules import VISION_PREFIX as HCL_AL_PREFIX
from medvlp.checkpoints.hlip import DUAL_TOWER, TRUNK, TWO_TOWER, two_tower_table
from medvlp.checkpoints.hlip_facts import hlip_facts
from medvlp.checkpoints.hsenet import EXPECTED, are_hsenet_towers, clip_table, is_hsenet_clip
from medvlp.checkpoints.hsenet_facts import clip_facts, slice_encoder_facts, towers_facts
from medvlp.checkpoints.hsenet_rules import CLIP, SLICE_ENCODER, TOWER_PREFIXES, TOWERS
from medvlp.checkpoints.hsenet_rules import VISION as HSENET_VISION
from medvlp.checkpoints.hsenet_rules import VISION_PREFIX as HSENET_PREFIX
from medvlp.checkpoints.hsenet_vlm import (
    ADAPTER,
    VLM,
    VLM_EXPECTED,
    AdapterPart,
    adapter_facts,
    is_hsenet_vlm,
    vlm_facts,
    vlm_table,
)
from medvlp.checkpoints.unimed_clip import (
    OPEN_CLIP,
    UNIMED_CLIP,
    VISION,
    VISION_PREFIX,
    is_unimed_clip,
)
from medvlp.checkpoints.unimed_clip_facts import unimed_clip_facts
from medvlp.models.hcl_al import HCLAL
from medvlp.models.two_tower import TwoTower
from medvlp.vision.hierarchical_vit import HierarchicalViT
from medvlp.vision.slice_encoder import SliceEncoder

OUR_NAMES = RuleTable((Rule("{rest}", "{rest}"),))
"""For files that hold our own names."""


@dataclass(frozen=True)
class PublishedSystem:
    """What must be known of a system to read and write its files.

    Attributes:
        name: For tables and `--json`.
        source: Where its weights were published.
        facts: From published names and shapes to the configuration; None if it is another system.
        fits: Whether a model of ours belongs to the system.
        table: The rule table of such a model.
        tables: All rule tables, to recognise files under our names.
        vision: Published prefix of the image tower.
        vision_table: The rule table of the image tower alone.
        open_clip: Rule table to the names that the open_clip library has for the same model.
        result: What was published of the weights, to be expected of an evaluation.
    """

    name: str
    source: str
    facts: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    fits: Callable[[nn.Module], bool]
    table: Callable[[nn.Module], RuleTable]
    tables: tuple[RuleTable, ...]
    vision: str
    vision_table: RuleTable
    open_clip: RuleTable | None = None
    result: str | None = None


def _is_hlip(model: nn.Module) -> bool:
    return isinstance(model, TwoTower) and isinstance(model.vision, HierarchicalViT)


SYSTEMS = {
    "hlip": PublishedSystem(
        name="hlip",
        source="github.com/Zch0414/hlip",
        facts=hlip_facts,
        fits=_is_hlip,
        table=two_tower_table,
        tables=(DUAL_TOWER, TWO_TOWER),
        vision="visual.trunk.",
        vision_table=TRUNK,
    ),
    "unimed_clip": PublishedSystem(
        name="unimed_clip",
        source="github.com/mbzuai-oryx/UniMed-CLIP",
        facts=unimed_clip_facts,
        fits=is_unimed_clip,
        table=lambda model: UNIMED_CLIP,
        tables=(UNIMED_CLIP,),
        vision=VISION_PREFIX,
        vision_table=VISION,
        open_clip=OPEN_CLIP,
    ),
    "fvlm": PublishedSystem(
        name="fvlm",
        source="github.com/alibaba-damo-academy/fvlm",
        facts=fvlm_facts,
        fits=is_fvlm,
        table=lambda model: FVLM_TABLE,
        tables=(FVLM_TABLE,),
        vision=FVLM_PREFIX,
        vision_table=FVLM_VISION,
    ),
    "hcl_al": PublishedSystem(
        name="hcl_al",
        source="github.com/HerrBaum-YR/HCL-AL",
        facts=hcl_al_facts,
        fits=lambda model: isinstance(model, HCLAL),
        table=lambda model: HCL_AL,
        tables=(HCL_AL,),
        vision=HCL_AL_PREFIX,
        vision_table=HCL_AL_VISION,
    ),
    "hsenet_clip": PublishedSystem(
        name="hsenet_clip",
        source="github.com/YanzhaoShi/HSENet",
        facts=clip_facts,
        fits=is_hsenet_clip,
        table=clip_table,
        tables=(CLIP,),
        vision=HSENET_PREFIX,
        vision_table=HSENET_VISION,
        result=EXPECTED,
    ),
    "hsenet_towers": PublishedSystem(
        name="hsenet_towers",
        source="github.com/YanzhaoShi/HSENet",
        facts=towers_facts,
        fits=are_hsenet_towers,
        table=lambda model: TOWERS,
        tables=(TOWERS,),
        vision=TOWER_PREFIXES[0],
        vision_table=HSENET_VISION,
    ),
    "hsenet_adapter": PublishedSystem(
        name="hsenet_adapter",
        source="github.com/YanzhaoShi/HSENet",
        facts=adapter_facts,
        fits=lambda model: isinstance(model, AdapterPart),
        table=lambda model: ADAPTER,
        tables=(ADAPTER,),
        vision=TOWER_PREFIXES[0],
        vision_table=HSENET_VISION,
        result=VLM_EXPECTED,
    ),
    "hsenet_vlm": PublishedSystem(
        name="hsenet_vlm",
        source="github.com/YanzhaoShi/HSENet",
        facts=vlm_facts,
        fits=is_hsenet_vlm,
        table=vlm_table,
        tables=(VLM,),
        vision=TOWER_PREFIXES[0],
        vision_table=HSENET_VISION,
    ),
    "biomedclip_slices": PublishedSystem(
        name="biomedclip_slices",
        source="huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        facts=slice_encoder_facts,
        fits=lambda model: isinstance(model, SliceEncoder),
        table=lambda model: SLICE_ENCODER,
        tables=(),  # its names are ours
        vision="visual.trunk.",
        vision_table=SLICE_ENCODER,
    ),
}


def is_published(model: nn.Module) -> bool:
    """Tell whether weights of models of this kind were published."""
    return any(system.fits(model) for system in SYSTEMS.values())


def system_of(model: nn.Module) -> PublishedSystem:
    """Find the system of a model of ours.

    Raises:
        ValueError: If none published weights of this kind.
    """
    for system in SYSTEMS.values():
        if system.fits(model):
            return system
    raise ValueError(
        f"no published weights are known for a {type(model).__name__}; known systems: "
        f"{', '.join(SYSTEMS)}"
    )
