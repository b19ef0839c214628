"""Rule tables of HSENet: image towers, contrastive models, spatial packers, BiomedCLIP's trunk.

Reference: the released checkpoints of github.com/YanzhaoShi/HSENet.
"""

import re
from dataclasses import replace

from medvlp.checkpoints.adapter import (
    Rule,
    RuleTable,
    nested,
    scalar_to_vector,
    vector_to_scalar,
)
from medvlp.checkpoints.monai_vit import MONAI_BLOCKS

_GUIDED = (
    Rule("Wq.{rest}", "query.{rest}"),
    Rule("Wk.{rest}", "key.{rest}"),
    Rule("Wv.{rest}", "value.{rest}"),
    Rule("output_linear.{rest}", "out.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
)
VISION_RULES = (
    Rule("cls_token", "cls_token"),
    Rule("patch_embedding.position_embeddings", "pos_embed"),
    Rule("patch_embedding.patch_embeddings.1.{rest}", "patch_embed.proj.{rest}"),
    *MONAI_BLOCKS,
    *nested(_GUIDED, "slice_guided_attention.", "slice_attention."),
    Rule("patch_score_proj.{rest}", "patch_score.{rest}"),
)
PACKER_RULES = (
    *nested(_GUIDED, "resolution_attention.", "attention."),
    Rule("proj_mpls.{rest}", "projection.{rest}"),
)

VISION = RuleTable(VISION_RULES)
"""An image tower of either stage alone."""

PACKER = RuleTable(PACKER_RULES)
"""A spatial packer alone."""

POOLED_PACKER = RuleTable((Rule("projector.{rest}", "projection.{rest}"),))
"""A packer without attention."""

SLICE_ENCODER = RuleTable(
    (Rule("{name}", "{name}"),),
    aliases={r"visual\.trunk\.(.+)": r"\1"},
    # The rest of BiomedCLIP as open_clip names it: projection of images, text tower, scale.
    ignored={r"visual\.head\.proj\.weight|text\..+|logit_scale": lambda tensor: True},
)
"""BiomedCLIP's image trunk, alone or within the whole file: timm's names are ours."""

VISION_PREFIX = "vision_encoder."
"""Of the image tower in a contrastive model."""

_CLIP_RULES = (
    Rule("logit_scale", "raw_scale", scalar_to_vector, vector_to_scalar),
    *nested(VISION_RULES, VISION_PREFIX, "vision."),
    Rule("language_encoder.{rest}", "text.encoder.{rest}"),
    Rule("mm_vision_proj.{rest}", "image_projection.{rest}"),
    Rule("mm_language_proj.{rest}", "text_projection.{rest}"),
)
TEACHER_PREFIX = "stage1_pretrained_CLIP."
"""Of the whole first stage in a file of the second."""

CLIP = RuleTable(
    (*_CLIP_RULES, *nested(_CLIP_RULES, TEACHER_PREFIX, "teacher.")),
    ignored={
        # A buffer that old versions of transformers wrote.
        r"(stage1_pretrained_CLIP\.)?language_encoder\.embeddings\.position_ids": lambda buffer: (
            not buffer.is_floating_point()
        ),
    },
    # Never used: the class token goes straight to the projection.
    carried=r"(teacher\.)?text\.encoder\.pooler\.dense\.(weight|bias)",
)
"""A contrastive model of either stage."""

CLIP_ALONE = replace(CLIP, carried=rf"{CLIP.carried}|teacher\..+")
"""The same without a teacher, as it is evaluated: that of a file is left alone."""

_TOWER = "model.vision_tower.vision_tower_stage"
TOWER_PREFIXES = (f"{_TOWER}1.", f"{_TOWER}2.")
"""Of both image towers in the language model that sees."""

_PREFIXED = r"(base_model\.model\.)?(model\.)?(vision_tower\..+)"

TOWERS = RuleTable(
    (
        *nested(VISION_RULES, TOWER_PREFIXES[0], "vision."),
        *nested(VISION_RULES, TOWER_PREFIXES[1], "guided_vision."),
    ),
    aliases={_PREFIXED: r"model.\3"},
)
"""Both image towers alone, as the language model names them."""


def unwrapped(name: str) -> str:
    """Give a tower within a language model the name that it has without PEFT."""
    return re.sub(_PREFIXED, r"model.\3", name)
