"""A model that sees and writes, small enough to train in milliseconds, and its tokenizer."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from medvlp.heads.spatial_packer import SpatialPacker
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.text.conversation_tokenizer import ConversationTokenizer
from medvlp.text.language_model import LanguageModel
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT

WORDS = ["<end>", "<unk>", "what", "where", "is", "it", "a", "nodule", "lung", "heart", "normal"]
LLM: dict[str, Any] = {
    "model_type": "phi3",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "original_max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
SIZE, PATCH = (4, 8, 8), (2, 4, 4)
NUM_IMAGE_TOKENS = 4


def make_tokenizer(folder: Path, **options: Any) -> ConversationTokenizer:
    words = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.add_special_tokens(["<end>"])
    file = folder / "tokenizer.json"
    words.save(str(file))
    settings = {"num_image_tokens": NUM_IMAGE_TOKENS, "end_token": "<end>"} | options
    return ConversationTokenizer(str(file), 40, **settings)


def make_vlm(*, shared_packer: bool = False, **options: Any) -> HSENetVLM:
    torch.manual_seed(0)
    shape = {"width": 8, "depth": 1, "num_heads": 2, "mlp_dim": 12}
    packers = [SpatialPacker(8, 16, kernel=(2, 1, 2), grid=(2, 2, 2)) for _ in range(2)]
    language = options.pop("language", None)
    vocab = len(WORDS) + 4
    return HSENetVLM(
        VolumeViT(SIZE, PATCH, **shape),
        SliceGuidedViT(SIZE, PATCH, **shape, slice_dim=6, slice_dropout=0.5),
        packer=packers[0],
        guided_packer=None if shared_packer else packers[1],
        language=language or LanguageModel({**LLM, "vocab_size": vocab}, num_added_tokens=4),
        **options,
    )
