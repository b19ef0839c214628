"""A batch forwarded in chunks has the loss and the gradient of the batch at once."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.dual import DualTokenLoss
from medvlp.models.chunked_forward import chunk_studies, chunk_tokens
from medvlp.models.two_tower import TwoTower
from medvlp.types import TextKind, Tokens, TwoTowerOutput
from tests.models.dual_towers import draw_study_inputs, make_dual_model

NUM_SCANS = [2, 1, 3, 1, 2]


def inputs() -> tuple[Tensor, Tensor, Tokens]:
    image, tokens = draw_study_inputs(NUM_SCANS, seed=1)
    return image.double(), torch.tensor(NUM_SCANS), tokens


def make_model(chunks: int, **options: Any) -> TwoTower:
    return make_dual_model(forward_chunks=chunks, **options).double()


def loss_of(output: TwoTowerOutput) -> Tensor:
    batch: Any = {
        "text_kind": torch.tensor([TextKind.SENTENCE, TextKind.REPORT] * len(NUM_SCANS)),
        "text_study": torch.arange(len(NUM_SCANS)).repeat_interleave(2),
    }
    return DualTokenLoss(ClipLoss())(output, batch)["total"]


def gradients(model: TwoTower, loss: Tensor) -> list[Tensor]:
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)
    return [parameter.grad for parameter in trained if parameter.grad is not None]


def at_once(model: TwoTower, chunks: int) -> Tensor:
    """Embed the same chunks and keep all activations."""
    image, num_scans, tokens = inputs()
    studies, texts = chunk_studies(image, num_scans, chunks), chunk_tokens(tokens, chunks)
    output = TwoTowerOutput(
        image_embedding=torch.cat([model.embed_image(*chunk) for chunk in studies]),
        text_embedding=torch.cat([model.embed_text(chunk) for chunk in texts]),
        logit_scale=model.logit_scale,
    )
    assert model.second_logit_scale is not None
    output["second_logit_scale"] = model.second_logit_scale
    return loss_of(output)


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunks", [2, 3, 9])
def test_the_gradient_is_that_of_the_whole_batch(chunks):
    whole, cut = make_model(1), make_model(chunks)
    loss, expected = loss_of(cut(*inputs())), loss_of(whole(*inputs()))
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    assert_same(gradients(cut, loss), gradients(whole, expected))


@pytest.mark.parametrize("nested", [False, True])
def test_every_chance_is_replayed(nested):
    whole, cut = make_model(1, drop=0.5), make_model(3, drop=0.5, nested=nested)
    torch.manual_seed(7)
    expected = at_once(whole, 3)
    torch.manual_seed(7)
    loss = loss_of(cut(*inputs()))
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    assert_same(gradients(cut, loss), gradients(whole, expected))
    torch.manual_seed(8)
    assert abs(loss_of(cut(*inputs())) - expected) > 1e-3


def test_half_precision_reaches_every_weight():
    losses, found = [], []
    for chunks in (1, 3):
        model = make_model(chunks).float()
        image, num_scans, tokens = inputs()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses.append(loss_of(model(image.float(), num_scans, tokens)))
        found.append(gradients(model, losses[-1]))
    for whole, cut in zip(*found, strict=True):
        error = (whole - cut).norm() / whole.norm().clamp(min=1e-3)
        assert error < 0.05


def test_activations_of_one_chunk_are_kept():
    def kept(model: TwoTower) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(*inputs())
        return sum(sizes)

    assert kept(make_model(5)) < kept(make_model(1)) / 20


def test_evaluation_does_not_forward_twice(monkeypatch):
    model, calls = make_model(3), []
    model.vision.register_forward_hook(lambda *_: calls.append(1))
    loss_of(model(*inputs())).backward()
    assert len(calls) == 6
    calls.clear()
    model.eval()(*inputs())
    with torch.no_grad():
        model.train()(*inputs())
    assert len(calls) == 2


def test_texts_that_need_no_gradient_are_not_forwarded_twice():
    model, calls = make_model(2), []
    model.text.requires_grad_(False)
    model.text_projection.requires_grad_(False)
    model.text.register_forward_hook(lambda *_: calls.append(1))
    loss_of(model(*inputs())).backward()
    assert len(calls) == 2


def test_no_chunks_at_all_are_refused():
    with pytest.raises(ValueError, match="forward_chunks is 0"):
        make_model(0)
