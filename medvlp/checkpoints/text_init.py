"""Start the text tower alone from the files that HCL-AL's networks start theirs from."""

import logging
import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    Rule,
    RuleTable,
    StateDict,
    compare,
    load_published,
)
from medvlp.checkpoints.files import read_weights
from medvlp.checkpoints.hcl_al_rules import CLIP_TEXT
from medvlp.checkpoints.init import FileInit
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.text.hf_encoder import HFEncoder

_LOG = logging.getLogger(__name__)

# The image side of whole CLIP files, their scale, and what OpenAI's say of the sizes.
_OTHER = r"(visual|vision_model|visual_projection)\..+|logit_scale|attn_mask|input_resolution"
_OTHER += r"|context_length|vocab_size|text\.proj\..+|.+\.pooler\..+|.+position_ids"
_IGNORED = {_OTHER: lambda tensor: True}
_CLIP = replace(CLIP_TEXT, ignored=_IGNORED)
_BERT = RuleTable((Rule("text.transformer.{rest}", "encoder.{rest}"),), ignored=_IGNORED)

# Hugging Face's names of CLIP's text tower.
_HF_NAMES = {
    r"text_model\.embeddings\.token_embedding\.weight": "token_embedding.weight",
    r"text_model\.embeddings\.position_embedding\.weight": "positional_embedding",
    r"text_model\.final_layer_norm\.": "ln_final.",
    r"text_model\.encoder\.layers\.": "transformer.resblocks.",
    r"\.self_attn\.out_proj\.": ".attn.out_proj.",
    r"\.layer_norm(\d)\.": r".ln_\1.",
    r"\.mlp\.fc1\.": ".mlp.c_fc.",
    r"\.mlp\.fc2\.": ".mlp.c_proj.",
}
_QUERY = re.compile(r"(.+)\.self_attn\.q_proj\.(weight|bias)")


class TextTowerInit(FileInit):
    """Start CLIP's text tower from CLIP, or a BERT from BiomedCLIP; the rest keeps its own start.

    Args:
        path: For CLIP's tower a state dict under OpenAI's, open_clip's or Hugging Face's names
            (openai/clip-vit-base-patch32 has the published weights); OpenAI's own archive is
            code, which is never run. For a BERT BiomedCLIP's open_clip file; tensors of other
            shapes are left out, as published.
    """

    def __call__(self, model: nn.Module) -> LoadReport:
        """Fill `model.text` and log what became of every weight.

        Raises:
            CheckpointMismatchError: If the weights do not fit the tower.
            ValueError: If the tower is of another kind.
        """
        text = getattr(model, "text", None)
        if not isinstance(text, ClipTextTransformer | HFEncoder):
            raise ValueError(
                f"init=text_tower fills a ClipTextTransformer or an HFEncoder, model.text is a "
                f"{type(text).__name__}; choose init=none"
            )
        is_clip = isinstance(text, ClipTextTransformer)
        table = _CLIP if is_clip else _BERT
        tensors = _openai_names(read_weights(self.path)) if is_clip else read_weights(self.path)
        report = compare(text, tensors, table)[1]
        if not report.loaded or (is_clip and not report.complete):
            raise CheckpointMismatchError(report, name=str(self.path))
        load_published(text, tensors, table, strict=False)
        _LOG.info("text tower from %s: %s", self.path, report)
        return report


def _openai_names(tensors: StateDict) -> dict[str, Tensor]:
    """Take names of open_clip's custom-text models and of Hugging Face for OpenAI's."""
    if not any(name.startswith("text_model.") for name in tensors):
        return {re.sub(r"^text\.(?!proj\.)", "", name): tensor for name, tensor in tensors.items()}
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        query = _QUERY.fullmatch(name)
        if query is not None and name.startswith("text_model."):
            parts = [tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            name, tensor = f"{query[1]}.attn.in_proj_{query[2]}", torch.cat(parts)
        elif name == "text_projection.weight":
            name, tensor = "text_projection", tensor.T
        elif re.fullmatch(r"text_model\..+\.self_attn\.[kv]_proj\..+", name):
            continue
        if name.startswith("text_model."):
            for pattern, replacement in _HF_NAMES.items():
                name = re.sub(pattern, replacement, name)
        named[name] = tensor
    return named
