"""Rule table of UniMed-CLIP, and of the same model in open_clip.

Reference: the released checkpoints of github.com/mbzuai-oryx/UniMed-CLIP, `visual` = image tower,
`text_encoder` = text tower with its head; open_clip's custom-text CLIP calls the latter `text`.
"""

from dataclasses import replace

from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    Rule,
    RuleTable,
    nested,
    scalar_to_vector,
    vector_to_scalar,
)
from medvlp.layers.mlp import MlpProjection
from medvlp.layers.pos_embed import resample_plane
from medvlp.models.two_tower import TwoTower
from medvlp.text.hf_encoder import HFEncoder
from medvlp.vision.image_vit import ImageViT

_BLOCK = "transformer.resblocks.{i}."
CLIP_BLOCKS = (
    Rule(_BLOCK + "attn.in_proj_{rest}", "blocks.{i}.attn.qkv.{rest}"),
    Rule(_BLOCK + "attn.out_proj.{rest}", "blocks.{i}.attn.proj.{rest}"),
    Rule(_BLOCK + "ln_1.{rest}", "blocks.{i}.norm1.{rest}"),
    Rule(_BLOCK + "ln_2.{rest}", "blocks.{i}.norm2.{rest}"),
    Rule(_BLOCK + "mlp.c_fc.{rest}", "blocks.{i}.mlp.fc1.{rest}"),
    Rule(_BLOCK + "mlp.c_proj.{rest}", "blocks.{i}.mlp.fc2.{rest}"),
)
"""Of both towers of the first CLIP."""

_VISION_RULES = (
    Rule("class_embedding", "cls_token"),
    Rule("positional_embedding", "pos_embed"),
    Rule("conv1.weight", "patch_embed.proj.weight"),
    Rule("ln_pre.{rest}", "norm_pre.{rest}"),
    Rule("ln_post.{rest}", "norm.{rest}"),
    *CLIP_BLOCKS,
)
VISION_PREFIX = "visual."
"""Of the image tower, in both forms."""

_RESIZABLE = {r"(vision\.)?pos_embed": resample_plane}
# Buffers that old versions of transformers wrote.
_HARMLESS = {
    r"text_encoder\.transformer\.embeddings\.(position_ids|token_type_ids)": lambda buffer: True
}

VISION = RuleTable(
    _VISION_RULES, ignored={"proj": lambda tensor: tensor.ndim == 2}, resizable=_RESIZABLE
)
"""The image tower alone, names without `visual.`; the projection is not part of it."""


def transposed(matrix: Tensor) -> Tensor:
    """Turn CLIP's projections, which stand to the right of features, into linear layers."""
    return matrix.T


_IMAGE_RULES = (
    Rule("logit_scale", "logit_scale", scalar_to_vector, vector_to_scalar),
    Rule("logit_bias", "logit_bias", scalar_to_vector, vector_to_scalar),  # of a sigmoid loss
    Rule("visual.proj", "image_projection.weight", transposed, transposed),
    *nested(_VISION_RULES, VISION_PREFIX, "vision."),
)


def _table(text: str) -> RuleTable:
    rules = (
        *_IMAGE_RULES,
        Rule(text + ".transformer.{rest}", "text.encoder.{rest}"),
        Rule(text + ".proj.0.weight", "text_projection.fc1.weight"),
        Rule(text + ".proj.2.weight", "text_projection.fc2.weight"),
    )
    return RuleTable(rules, ignored=_HARMLESS, resizable=_RESIZABLE)


IMAGE_PART = RuleTable(_IMAGE_RULES, resizable=_RESIZABLE)
"""The image tower, its projection and the scale: what CLIP models have in common."""

UNIMED_CLIP = replace(_table("text_encoder"), aliases={r"^text\.": "text_encoder."})
"""The whole model; reads open_clip's names as well."""

OPEN_CLIP = _table("text")
"""The whole model as open_clip names it."""


def is_unimed_clip(model: nn.Module) -> bool:
    """Tell whether a model has the parts that the rule table names."""
    return (
        isinstance(model, TwoTower)
        and isinstance(model.vision, ImageViT)
        and isinstance(model.text, HFEncoder)
        and isinstance(model.text_projection, MlpProjection)
        and [name for name, _ in model.image_projection.named_parameters()] == ["weight"]
        and model.second_logit_scale is None
    )
