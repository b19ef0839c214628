"""Rule tables of HSENet: image towers, contrastive models, spatial packers, BiomedCLIP's trunk.

Reference: the released checkpoints of github.com/YanzhaoShi/HSENet.
"""

from medvlp.checkpoints.adapter import (
    Rule,
    RuleTable,
    nested,
    scalar_to_vector,
    vector_to_scalar,
)

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
    Rule("blocks.{i}.attn.qkv.{rest}", "blocks.{i}.attn.qkv.{rest}"),
    Rule("blocks.{i}.attn.out_proj.{rest}", "blocks.{i}.attn.proj.{rest}"),
    Rule("blocks.{i}.mlp.linear1.{rest}", "blocks.{i}.mlp.fc1.{rest}"),
    Rule("blocks.{i}.mlp.linear2.{rest}", "blocks.{i}.mlp.fc2.{rest}"),
    Rule("blocks.{i}.norm1.{rest}", "blocks.{i}.norm1.{rest}"),
    Rule("blocks.{i}.norm2.{rest}", "blocks.{i}.norm2.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
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

SLICE_ENCODER = RuleTable((Rule("{name}", "{name}"),))
"""BiomedCLIP's image trunk: timm's names are ours."""

CLIP_RULES = (
    Rule("logit_scale", "raw_scale", scalar_to_vector, vector_to_scalar),
    *nested(VISION_RULES, "vision_encoder.", "vision."),
    Rule("language_encoder.{rest}", "text.encoder.{rest}"),
    Rule("mm_vision_proj.{rest}", "image_projection.{rest}"),
    Rule("mm_language_proj.{rest}", "text_projection.{rest}"),
)
CLIP = RuleTable(
    CLIP_RULES,
    ignored={
        # A buffer that old versions of transformers wrote.
        r"language_encoder\.embeddings\.position_ids": lambda buffer: (
            not buffer.is_floating_point()
        ),
        # Never used: the class token goes straight to the projection.
        r"language_encoder\.pooler\.dense\.(weight|bias)": lambda tensor: True,
    },
)
"""A contrastive model of either stage, without the teacher of the second."""
