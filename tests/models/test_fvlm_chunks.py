"""A batch of organs forwarded in chunks gives the gradient of the whole batch."""

import pytest
import torch
from torch import nn

from medvlp.losses.anatomy import AnatomyContrastiveLoss
from medvlp.models.fvlm import FVLM
from medvlp.types import AnatomyOutput, VolumeBatch
from tests.systems.anatomy_tiny import ORGANS, make_batch, make_model


def gradients(model: FVLM, chunks: int) -> dict[str, torch.Tensor]:
    model.forward_chunks = chunks
    model.zero_grad()
    batch = make_batch(0, absent=[(1, 2)])
    output = forward(model, batch)
    AnatomyContrastiveLoss(ORGANS)(output, batch)["total"].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def forward(model: FVLM, batch: VolumeBatch) -> AnatomyOutput:
    assert "tokens" in batch and "anatomy_mask" in batch
    image = batch["image"].to(model.temperature.dtype)
    return model(image, batch["num_scans"], batch["anatomy_mask"], batch["tokens"])


@pytest.mark.parametrize("chunks", [2, 3, 9])
def test_chunks_change_no_gradient(chunks):
    model = make_model().double().train()
    whole = gradients(model, 1)
    calls = count_calls(model.vision)
    parts = gradients(model, chunks)
    assert calls[0] == 2 * min(chunks, 4)  # forward, and again in the backward pass
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-9, atol=1e-12)


def test_evaluation_is_not_cut():
    model = make_model().eval()
    model.forward_chunks = 4
    calls = count_calls(model.vision)
    forward(model, make_batch(0))
    assert calls[0] == 1


def test_no_chunks_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match="forward_chunks is 0"):
        FVLM(
            model.vision,
            model.text,
            pooling=model.pooling,
            text_projection=model.text_projection,
            forward_chunks=0,
        )


def count_calls(module: nn.Module) -> list[int]:
    calls = [0]

    def add(*_: object) -> None:
        calls[0] += 1

    module.register_forward_hook(add)
    return calls
