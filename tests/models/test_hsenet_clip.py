"""HSENet's contrastive model: the raw scale, slices, chunks."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvlp.losses.contrastive import ClipLoss
from medvlp.losses.functional import pair_logits
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.types import Tokens
from medvlp.vision.slice_guided_vit import SliceGuidedViT
from medvlp.vision.volume_vit import VolumeViT


class Words(nn.Module):
    """The mean of the words."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 6)

    def forward(self, tokens: Tokens) -> Tensor:
        return self.table(tokens.input_ids).mean(1)


def make_model(*, guided: bool, **options: Any) -> HSENetCLIP:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 12, "depth": 2, "num_heads": 2, "mlp_dim": 24}
    if guided:
        vision = SliceGuidedViT((4, 8, 8), (2, 4, 4), slice_dim=5, **sizes)
    else:
        vision = VolumeViT((4, 8, 8), (2, 4, 4), **sizes)
    model = HSENetCLIP(
        vision,
        Words(),
        image_projection=nn.Linear(12, 8),
        text_projection=nn.Linear(6, 8),
        **options,
    )
    return model.eval()


def batch(count: int = 4) -> tuple[Tensor, Tensor, Tokens, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(20, (count, 7), generator=generator)
    return (
        torch.rand(count, 1, 4, 8, 8, generator=generator),
        torch.ones(count, dtype=torch.int64),
        Tokens(ids, torch.ones_like(ids, dtype=torch.bool)),
        torch.randn(count, 3, 5, generator=generator),
    )


def test_the_scale_is_stored_raw_and_stated_in_log_space() -> None:
    model = make_model(guided=False)
    assert "raw_scale" in dict(model.named_parameters()) and "logit_scale" not in model.state_dict()
    assert model.raw_scale.item() == pytest.approx(2.65926)
    image, ones, tokens, _ = batch()
    output = model(image, ones, tokens)
    images, texts = output["image_embedding"], output["text_embedding"]
    logits = pair_logits(images, texts, output["logit_scale"])
    torch.testing.assert_close(logits, model.raw_scale * images @ texts.T)
    loss = ClipLoss()(output, {"text_study": torch.arange(4)})["total"]  # pyright: ignore
    loss.backward()
    by_hand = torch.autograd.functional.jacobian(
        lambda scale: ClipLoss().of_pairs(images.detach(), texts.detach(), scale.log()),
        torch.tensor([2.65926]),
    )
    torch.testing.assert_close(model.raw_scale.grad, by_hand, rtol=1e-4, atol=1e-6)


def test_the_scale_stays_positive_and_is_otherwise_left_alone() -> None:
    model = make_model(guided=False)
    for value, expected in ((250.0, 250.0), (0.5, 0.5), (-1.0, 1e-4)):
        model.raw_scale.data.fill_(value)
        model.clamp_logit_scale()
        assert model.raw_scale.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"raw_scale_init is 0.0, expected at least 0.0001"):
        make_model(guided=False, raw_scale_init=0.0)


def test_slices_go_to_the_second_stage_alone() -> None:
    first, second = make_model(guided=False), make_model(guided=True)
    assert (first.needs_slices, second.needs_slices) == (False, True)
    image, ones, tokens, slices = batch()
    assert torch.equal(first.embed_image(image, ones, slices), first.embed_image(image, ones))
    embedding = second(image, ones, tokens, slices)["image_embedding"]
    assert torch.equal(second.embed_image(image, ones, slices), embedding)
    assert not torch.equal(second.embed_image(image, ones, slices + 1), embedding)
    with pytest.raises(ValueError, match="needs the features of each scan's slices"):
        second(image, ones, tokens)
    with pytest.raises(ValueError, match=r"slice features of shape \(3, 3, 5\) came for 4 scans"):
        second(image, ones, tokens, slices[:3])
    with pytest.raises(ValueError, match="4 scans came for 2 studies"):
        second(image, torch.tensor([2, 2]), tokens, slices)


@pytest.mark.parametrize("guided", [False, True])
def test_chunks_give_the_gradient_of_the_whole_batch(guided: bool) -> None:
    whole = make_model(guided=guided).train()
    whole.vision.eval()  # dropout would draw otherwise for each
    chunked = copy.deepcopy(whole)
    chunked.forward_chunks = 3
    image, ones, tokens, slices = batch()
    outputs = [model(image, ones, tokens, slices) for model in (whole, chunked)]
    for output in outputs:
        similarity = output["image_embedding"] @ output["text_embedding"].T
        (similarity * output["logit_scale"].exp()).logsumexp(1).sum().backward()
    for one, other in zip(whole.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
