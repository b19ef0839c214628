"""A frozen text tower that nothing filled is told once."""

import pytest
from torch import nn

from medvlp.systems.frozen_start import FrozenStart
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.text.hf_encoder import HFEncoder
from tests.systems.tiny import fit, make_batch, make_model, make_system, make_trainer

BERT = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT |= {"intermediate_size": 8, "vocab_size": 20, "max_position_embeddings": 8}


class TwoTowers(nn.Module):
    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text


def clip(**options: str) -> ClipTextTransformer:
    return ClipTextTransformer(20, 8, width=8, depth=1, num_heads=2, embed_dim=4, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (clip(freeze="all"), True),
        (clip(), False),
        (HFEncoder(BERT, freeze="all"), True),
        (HFEncoder(BERT), False),
        (nn.Linear(2, 2).requires_grad_(False), False),
    ],
    ids=["clip", "clip that learns", "bert", "bert that learns", "another"],
)
def test_a_tower_frozen_at_random_is_told(text: nn.Module, warned: bool, caplog) -> None:
    FrozenStart(TwoTowers(text)).warn()
    assert ("init=text_tower init.path=FILE" in caplog.text) == warned


def test_a_tower_that_was_filled_is_not_told(caplog) -> None:
    text = clip(freeze="all")
    start = FrozenStart(TwoTowers(text))
    text.load_state_dict(clip().state_dict())
    start.warn()
    assert not caplog.records


def test_a_fresh_run_tells_it_once(caplog) -> None:
    model = make_model()
    model.text.requires_grad_(False)
    model.text.starts_at_random = True  # pyright: ignore[reportArgumentType]
    fit(make_trainer(max_epochs=2), make_system(model), [make_batch(0)])
    assert caplog.text.count("frozen as it started, at random") == 1
