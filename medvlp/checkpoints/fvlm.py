"""Rule table of fVLM.

Reference: the model files of github.com/alibaba-damo-academy/fvlm, `visual_encoder` = image tower,
`text_encoder` = text tower, `attention` and `vision_projs` = pooling.
"""

from torch import nn

from medvlp.checkpoints.adapter import (
    Rule,
    RuleTable,
    nested,
    scalar_to_vector,
    vector_to_scalar,
)
from medvlp.checkpoints.monai_vit import MONAI_BLOCKS
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.models.fvlm import FVLM

_VISION_RULES = (
    Rule("patch_embedding.position_embeddings", "pos_embed"),
    Rule("patch_embedding.patch_embeddings.{rest}", "patch_embed.proj.{rest}"),
    *MONAI_BLOCKS,
)
VISION_PREFIX = "visual_encoder."
"""Of the image tower."""

VISION = RuleTable(_VISION_RULES)
"""The image tower alone, names without `visual_encoder.`."""

_HARMLESS = {
    # A buffer that old versions of transformers wrote.
    r"text_encoder\.embeddings\.position_ids": lambda buffer: not buffer.is_floating_point(),
    # In some files, by a flag of the text encoder's config; never added to the words.
    r"text_encoder\.embeddings\.token_type_embeddings\.weight": lambda table: table.ndim == 2,
    # The language head, unused: an alias of the word table, and frozen leftovers.
    r"text_encoder\.cls\.predictions\..+": lambda leftover: True,
}

FVLM_TABLE = RuleTable(
    (
        Rule("temp", "temperature", scalar_to_vector, vector_to_scalar),
        Rule("query_tokens", "pooling.query"),
        *nested(_VISION_RULES, VISION_PREFIX, "vision."),
        Rule("text_encoder.{rest}", "text.encoder.{rest}"),
        Rule("text_proj.{rest}", "text_projection.{rest}"),
        Rule("attention.{rest}", "pooling.attention.{rest}"),
        Rule("vision_projs.{rest}", "pooling.projections.{rest}"),
    ),
    ignored=_HARMLESS,
)
"""The whole model."""


def is_fvlm(model: nn.Module) -> bool:
    """Tell whether a model has the parts that the rule table names."""
    return (
        isinstance(model, FVLM)
        and isinstance(model.text_projection, nn.Linear)
        and isinstance(model.vision.patch_embed, PatchEmbed3D)
    )
