import pytest
import torch
from torch import Tensor

from medvlp.evaluation.anatomy_zero_shot import embed_organs, organ_numbers, organ_probabilities

SHAPE = (4, 6, 8)


def study() -> tuple[Tensor, Tensor]:
    """Organ 0 in the middle, organ 1 in a corner, no organ 2."""
    image = torch.arange(4.0 * 6 * 8).reshape(1, 1, *SHAPE)
    mask = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    mask[0, 1:3, 2:4, 3:5] = 1
    mask[0, 3, 5, 7] = 2
    return image, mask


class MeanOfOrgan:
    """Embeds an organ as the mean of the image over it and the size of what was seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, image: Tensor, num_scans: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(image.shape[2:]))
        flags = torch.stack([mask == number for number in (1, 2, 3)], dim=1)
        total = (image * flags).sum((2, 3, 4)) / flags.sum((2, 3, 4)).clamp(min=1)
        return total[..., None], flags.any((2, 3, 4))


def embed(model: MeanOfOrgan, image: Tensor, mask: Tensor, window, multiple=(1, 1, 1)) -> Tensor:
    options = {"num_organs": 3, "window": window, "multiple": multiple}
    return embed_organs(model, image, mask, **options)


@pytest.mark.parametrize("window", [None, (4, 6, 8), (9, 9, 9)])
def test_organs_that_share_a_window_share_a_pass(window):
    image, mask = study()
    model = MeanOfOrgan()
    found = embed(model, image, mask, window, multiple=(4, 4, 4))
    assert model.seen == [(4, 8, 8)]
    assert found[0, 0].item() == image[0, 0][mask[0] == 1].mean().item()
    assert found[0, 1].item() == image[0, 0, 3, 5, 7].item()
    assert found[0, 2].isnan().all()


def test_a_smaller_window_gives_the_same_organs_in_two_passes():
    image, mask = study()
    model = MeanOfOrgan()
    found = embed(model, image, mask, (3, 3, 4))
    assert model.seen == [(3, 3, 4), (3, 3, 4)]
    torch.testing.assert_close(found, embed(MeanOfOrgan(), image, mask, None), equal_nan=True)


def test_volumes_without_any_organ_are_nan():
    image, mask = study()
    found = embed(MeanOfOrgan(), image, torch.zeros_like(mask), None, multiple=(2, 2, 2))
    assert found.shape == (1, 3, 1) and found.isnan().all()


def test_masks_of_another_grid_and_embeddings_that_are_not_finite_are_refused():
    image, mask = study()
    with pytest.raises(ValueError, match="embeddings of organs are not finite"):
        embed(MeanOfOrgan(), image * torch.nan, mask, None)
    with pytest.raises(ValueError, match=r"\(3, 6, 8\) voxels, the image"):
        embed(MeanOfOrgan(), image, mask[:, 1:], None)


def test_probabilities_by_hand_and_nan_for_an_absent_organ():
    embedding = torch.tensor([[[1.0, 0.0], [torch.nan, torch.nan]]])
    prompts = torch.eye(2)[None].repeat(2, 1, 1)
    found = organ_probabilities(embedding, prompts, torch.tensor([0, 1]), 0.5)
    assert found[0, 0].item() == pytest.approx(1 / (1 + 2.718281828**2))
    assert found[0, 1].isnan()


def test_organs_are_found_by_name():
    assert organ_numbers(["heart", "lung", "heart"], ["lung", "heart"]) == [1, 0, 1]
    with pytest.raises(ValueError, match="ask for liver, the model knows lung"):
        organ_numbers(["liver"], ["lung"])
