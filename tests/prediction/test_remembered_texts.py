"""Embeddings of texts that were kept are those that were made, or are made again."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.place_file import Place
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.remembered_texts import remembered_embeddings, texts_key

WORDS = ("a", "bb", "ccc")


class Encoder:
    """Embeds words and counts them."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.count = scale, 0

    def __call__(self, words: Sequence[str]) -> Tensor:
        self.count += len(words)
        return torch.tensor([[self.scale, float(len(word))] for word in words])


def test_words_are_embedded_once(tmp_path: Path) -> None:
    first, second = Encoder(), Encoder()
    made = remembered_embeddings(tmp_path / "texts", "key", WORDS, first)
    again = remembered_embeddings(tmp_path / "texts", "key", WORDS, second)
    assert torch.equal(made, again) and (first.count, second.count) == (3, 1)
    assert [path.name for path in (tmp_path / "texts").iterdir()] == ["key.safetensors"]


def test_what_does_not_agree_or_is_damaged_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remembered_embeddings(tmp_path, "key", WORDS, Encoder())
    with caplog.at_level(logging.WARNING):
        other = remembered_embeddings(tmp_path, "key", WORDS, Encoder(2.0))
        assert other[0].tolist() == [2, 1] and "another tokenizer" in caplog.text
        (tmp_path / "key.safetensors").write_bytes(b"half")
        mended = remembered_embeddings(tmp_path, "key", WORDS, Encoder(2.0))
    assert torch.equal(mended, other) and "cannot be read" in caplog.text
    more = remembered_embeddings(tmp_path, "key", (*WORDS, "dddd"), Encoder(2.0))
    assert len(more) == 4


def test_the_key_tells_weights_vocabularies_and_words_apart() -> None:
    def model(seed: int) -> HCLAL:
        torch.manual_seed(seed)
        vision, text = nn.Linear(2, 2), nn.Linear(2, 2)
        return HCLAL(vision, text, image_projection=nn.Identity(), text_fc=nn.Linear(2, 2))

    places = [Place("Chest", "Left lung", "Apex", "Left apex")]
    one = PlaceVocabulary(places, {"Apex": "at the top"})
    two = PlaceVocabulary(places, {"Apex": "at the very top"})
    keys = [texts_key(model(0), one, WORDS), texts_key(model(1), one, WORDS)]
    keys += [texts_key(model(0), two, WORDS), texts_key(model(0), one, WORDS[:2])]
    assert len(set(keys)) == 4 and texts_key(model(0), one, WORDS) == keys[0]
