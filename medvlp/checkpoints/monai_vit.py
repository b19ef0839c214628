"""Names that MONAI gives to the blocks of its ViT, as fVLM's and HSENet's files have them."""

from medvlp.checkpoints.adapter import Rule

MONAI_BLOCKS = (
    Rule("blocks.{i}.attn.qkv.{rest}", "blocks.{i}.attn.qkv.{rest}"),
    Rule("blocks.{i}.attn.out_proj.{rest}", "blocks.{i}.attn.proj.{rest}"),
    Rule("blocks.{i}.mlp.linear1.{rest}", "blocks.{i}.mlp.fc1.{rest}"),
    Rule("blocks.{i}.mlp.linear2.{rest}", "blocks.{i}.mlp.fc2.{rest}"),
    Rule("blocks.{i}.norm1.{rest}", "blocks.{i}.norm1.{rest}"),
    Rule("blocks.{i}.norm2.{rest}", "blocks.{i}.norm2.{rest}"),
    Rule("norm.{rest}", "norm.{rest}"),
)
"""With the norm that follows them."""
