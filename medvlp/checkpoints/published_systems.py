"""The systems whose published weights we know: one entry each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from medvlp.checkpoints.adapter import Rule, RuleTable
from medvlp.checkpoints.fvlm import FVLM_TABLE, is_fvlm
from medvlp.checkpoints.fvlm import VISION as FVLM_VISION
from medvlp.checkpoints.fvlm import VISION_PREFIX as FVLM_PREFIX
from medvlp.checkpoints.fvlm_facts import fvlm_facts
from medvlp.checkpoints.hcl_al_container import published_beside
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


class Published(NamedTuple):
    """Where weights were published, and how their names are read.

    Attributes:
        source: Where.
        tables: All rule tables, to recognise files under our names.
        vision: Published prefix of the image tower.
        vision_table: The rule table of the image tower alone.
    """

    source: str
    tables: tuple[RuleTable, ...]
    vision: str
    vision_table: RuleTable


@dataclass(frozen=True)
class PublishedSystem:
    """What must be known of a system to read and write its files.

    Attributes:
        name: For tables and `--json`.
        published: Its weights.
        facts: From published names and shapes to the configuration; None if it is another system.
        fits: Whether a model of ours belongs to the system.
        choose: Chooses the rule table of such a model; None takes the only one.
        open_clip: Rule table to the names that the open_clip library has for the same model.
        result: What was published of the weights, to be expected of an evaluation.
        beside: From published tensors, and what lay beside them, to what a published file holds
            beside its weights; None for the epoch and a name.
    """

    name: str
    published: Published
    facts: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    fits: Callable[[nn.Module], bool]
    choose: Callable[[nn.Module], RuleTable] | None = None
    open_clip: RuleTable | None = None
    result: str | None = None
    beside: Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]] | None = None

    def table(self, model: nn.Module) -> RuleTable:
        """Return the rule table of a model of this system."""
        return self.published.tables[0] if self.choose is None else self.choose(model)


def _is_hlip(model: nn.Module) -> bool:
    return isinstance(model, TwoTower) and isinstance(model.vision, HierarchicalViT)


def _is(kind: type[nn.Module]) -> Callable[[nn.Module], bool]:
    return lambda model: isinstance(model, kind)


_HLIP = Published("github.com/Zch0414/hlip", (DUAL_TOWER, TWO_TOWER), "visual.trunk.", TRUNK)
_UNIMED = Published("github.com/mbzuai-oryx/UniMed-CLIP", (UNIMED_CLIP,), VISION_PREFIX, VISION)
_FVLM = Published("github.com/alibaba-damo-academy/fvlm", (FVLM_TABLE,), FVLM_PREFIX, FVLM_VISION)
_HCL_AL = Published("github.com/HerrBaum-YR/HCL-AL", (HCL_AL,), HCL_AL_PREFIX, HCL_AL_VISION)
_HSENET = Published("github.com/YanzhaoShi/HSENet", (CLIP,), HSENET_PREFIX, HSENET_VISION)
_TOWERS = _HSENET._replace(tables=(TOWERS,), vision=TOWER_PREFIXES[0])
_SLICES = Published(
    "huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    tables=(),  # its names are ours
    vision="visual.trunk.",
    vision_table=SLICE_ENCODER,
)

_SYSTEMS = (
    PublishedSystem("hlip", _HLIP, facts=hlip_facts, fits=_is_hlip, choose=two_tower_table),
    PublishedSystem(
        "unimed_clip", _UNIMED, facts=unimed_clip_facts, fits=is_unimed_clip, open_clip=OPEN_CLIP
    ),
    PublishedSystem("fvlm", _FVLM, facts=fvlm_facts, fits=is_fvlm),
    PublishedSystem(
        "hcl_al", _HCL_AL, facts=hcl_al_facts, fits=_is(HCLAL), beside=published_beside
    ),
    PublishedSystem(
        "hsenet_clip",
        _HSENET,
        facts=clip_facts,
        fits=is_hsenet_clip,
        choose=clip_table,
        result=EXPECTED,
    ),
    PublishedSystem("hsenet_towers", _TOWERS, facts=towers_facts, fits=are_hsenet_towers),
    PublishedSystem(
        "hsenet_adapter",
        _TOWERS._replace(tables=(ADAPTER,)),
        facts=adapter_facts,
        fits=_is(AdapterPart),
        result=VLM_EXPECTED,
    ),
    PublishedSystem(
        "hsenet_vlm",
        _TOWERS._replace(tables=(VLM,)),
        facts=vlm_facts,
        fits=is_hsenet_vlm,
        choose=vlm_table,
    ),
    PublishedSystem(
        "biomedclip_slices",
        _SLICES,
        facts=slice_encoder_facts,
        fits=_is(SliceEncoder),
        choose=lambda model: SLICE_ENCODER,
    ),
)
SYSTEMS = {system.name: system for system in _SYSTEMS}


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
