"""Padding costs time and changes nothing: trimmed texts have the features of padded ones."""

from pathlib import Path

import pytest
import torch

from medvlp.layers.mlp import MlpProjection
from medvlp.text.hf_encoder import HFEncoder
from medvlp.text.tokenizers import WordPieceTokenizer

CONTEXT = 256
WORDS = ["no", "sign", "of", "pneumonia", "is", "seen", "in", "this", "image"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
SHORT = ["no sign of pneumonia", "pneumonia", "this is no pneumonia in this image", ""]
LONG = ["pneumonia is seen in this image " * 60]
BATCHES = {"short": SHORT, "long": LONG * 2, "one long": SHORT + LONG, "single": SHORT[:1]}


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("texts", BATCHES.values(), ids=BATCHES)
def test_trimmed_texts_have_the_features_of_padded_ones(
    tmp_path: Path, texts: list[str], groups: int
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    longest, padded = (
        WordPieceTokenizer(tmp_path / "vocab.txt", CONTEXT, padding=padding)
        for padding in ("longest", "max_length")
    )
    longest.num_truncated = padded.num_truncated = 1  # cuts are expected, do not warn of them
    config = {
        "model_type": "bert",
        "vocab_size": len(PIECES),
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": CONTEXT,
    }
    torch.manual_seed(0)
    encoder, head = HFEncoder(config).eval(), MlpProjection(64, 56, 48)
    with torch.no_grad():
        expected = head(encoder(padded(texts)))
        encoder.length_groups = groups
        features = head(encoder(longest(texts)))
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
