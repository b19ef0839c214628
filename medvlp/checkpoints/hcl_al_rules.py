"""Rule tables of HCL-AL: four image towers, CLIP's and BERT's text tower, one table for all.

Reference: the released checkpoints of github.com/HerrBaum-YR/HCL-AL. Every name there begins with
`module.`, which reading takes off.
"""

from medvlp.checkpoints.adapter import (
    Rule,
    RuleTable,
    nested,
    scalar_to_vector,
    vector_to_scalar,
)
from medvlp.checkpoints.unimed_clip import CLIP_BLOCKS, transposed

# The stages are named by the channels they have at 16 base channels, whatever they have.
_STAGES = {32: 0, 64: 1, 128: 2, 256: 3}


def _convolutions(published: str, ours: str) -> tuple[Rule, ...]:
    """Name the stem and the stages of the two plain networks."""
    return (
        Rule(f"{published}.conv.{{rest}}", f"{ours}.conv.{{rest}}"),
        Rule(f"{published}.bn.{{rest}}", f"{ours}.norm.{{rest}}"),
        Rule(f"{published}.down_conv.{{rest}}", f"{ours}.down.conv.{{rest}}"),
        Rule(f"{published}.down_bn.{{rest}}", f"{ours}.down.norm.{{rest}}"),
        Rule(f"{published}.rblock.ops.{{j}}.0.{{rest}}", f"{ours}.layers.{{j}}.conv.{{rest}}"),
        Rule(f"{published}.rblock.ops.{{j}}.1.{{rest}}", f"{ours}.layers.{{j}}.norm.{{rest}}"),
    )


_PLAIN = (
    *_convolutions("in_block", "stem"),
    *(
        rule
        for width, stage in _STAGES.items()
        for rule in _convolutions(f"down_{width}", f"stages.{stage}")
    ),
)
_DENSE_LAYER = (
    Rule("batch_norm1.{rest}", "norm1.{rest}"),
    Rule("convolution1.{rest}", "conv1.{rest}"),
    Rule("batch_norm2.{rest}", "norm2.{rest}"),
    Rule("convolution2.{rest}", "conv2.{rest}"),
)
_DENSE = (
    Rule("input_block.convolution.{rest}", "entry.conv.{rest}"),
    Rule("input_block.batch_normal.{rest}", "entry.norm.{rest}"),
    *nested(_DENSE_LAYER, "ops.{k}.dense_base_blocks.{j}.", "parts.{k}.layers.{j}."),
    Rule("ops.{k}.batch_norm.{rest}", "parts.{k}.norm.{rest}"),
    Rule("ops.{k}.convolution.{rest}", "parts.{k}.conv.{rest}"),
    Rule("final_bn.{rest}", "last_norm.{rest}"),
)
_VIT = (
    Rule("cls_token", "cls_token"),
    Rule("position_embedding", "pos_embed"),
    Rule("patch_embedding.projection.{rest}", "patch_embed.proj.{rest}"),
    Rule("encoder.{i}.layer_norm1.{rest}", "blocks.{i}.norm1.{rest}"),
    Rule("encoder.{i}.self_attention.qkv.{rest}", "blocks.{i}.attn.qkv.{rest}"),
    Rule("encoder.{i}.self_attention.fc.{rest}", "blocks.{i}.attn.proj.{rest}"),
    Rule("encoder.{i}.layer_norm2.{rest}", "blocks.{i}.norm2.{rest}"),
    Rule("encoder.{i}.feed_forward.0.{rest}", "blocks.{i}.mlp.fc1.{rest}"),
    Rule("encoder.{i}.feed_forward.2.{rest}", "blocks.{i}.mlp.fc2.{rest}"),
    Rule("layer_norm.{rest}", "norm.{rest}"),
)
_CLIP_TEXT = (
    Rule("token_embedding.weight", "token_embed.weight"),
    Rule("positional_embedding", "pos_embed"),
    Rule("ln_final.{rest}", "norm.{rest}"),
    Rule("text_projection", "projection.weight", transposed, transposed),
    *CLIP_BLOCKS,
)
VISION_PREFIX = "image_encoder."
"""Of the image tower and its projection."""

VISION = RuleTable((*_PLAIN, *_DENSE, *_VIT), ignored={r"fc\.(weight|bias)": lambda tensor: True})
"""An image tower alone, names without `image_encoder.`; the projection is not part of it."""

CLIP_TEXT = RuleTable(_CLIP_TEXT)
"""CLIP's text tower alone."""

HCL_AL = RuleTable(
    (
        Rule("logit_scale", "logit_scale", scalar_to_vector, vector_to_scalar),
        Rule(VISION_PREFIX + "fc.{rest}", "image_projection.{rest}"),
        *nested(VISION.rules, VISION_PREFIX, "vision."),
        Rule("text_fc.{rest}", "text_projection.{rest}"),
        *nested(_CLIP_TEXT, "text_encoder.", "text."),
        Rule("text_encoder.{rest}", "text.encoder.{rest}"),  # BERT
    ),
    ignored={
        # A buffer that old versions of transformers wrote.
        r"text_encoder\.embeddings\.position_ids": lambda buffer: not buffer.is_floating_point(),
    },
    # BERT's, never used: the feature is a maximum over positions.
    carried=r"text\.encoder\.pooler\.dense\.(weight|bias)",
)
"""The whole model, of any variant."""
