"""The published accumulation against its own words: k backward passes, summed."""

import pytest
import torch

from medvlp.losses.contrastive import ClipLoss, SigLipLoss
from medvlp.losses.published_accumulation import PublishedAccumulation
from medvlp.types import TwoTowerOutput
from tests.losses.rank_losses import loss_and_gradients, unit_rows

K, SIZE = 3, 2


@pytest.mark.parametrize("loss", [ClipLoss(), SigLipLoss()])
def test_it_is_the_sum_of_passes_in_which_one_batch_has_gradient(loss):
    given = {
        "image": unit_rows(K * SIZE, 5, seed=1),
        "text": unit_rows(K * SIZE, 5, seed=2),
        "logit_scale": torch.tensor([1.5]),
        "logit_bias": torch.tensor([-2.0]),
    }
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    for k in range(K):
        live = (torch.arange(K * SIZE) // SIZE == k)[:, None]
        image, text = (torch.where(live, leaves[name], given[name]) for name in ("image", "text"))
        output = TwoTowerOutput(
            image_embedding=image,
            text_embedding=text,
            logit_scale=leaves["logit_scale"],
            logit_bias=leaves["logit_bias"],
        )
        total = loss(output, {})["total"]
        total.backward()
    found = loss_and_gradients(0, PublishedAccumulation(loss, accum_freq=K), [given], [{}])
    assert found["loss"] == total
    for name, leaf in leaves.items():
        if leaf.grad is not None:
            torch.testing.assert_close(found[name], leaf.grad, rtol=0, atol=1e-6)


def test_less_than_one_pass_is_refused():
    with pytest.raises(ValueError, match="accum_freq is 0"):
        PublishedAccumulation(ClipLoss(), accum_freq=0)
