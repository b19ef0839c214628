"""Which tokens belong to an organ, and what is pooled from them."""

import pytest
import torch

from medvlp.heads.anatomy_pool import AnatomyPool, intact_organs, organ_tokens


def test_a_token_belongs_to_every_organ_that_has_a_voxel_in_it() -> None:
    mask = torch.zeros(1, 2, 4, 9, dtype=torch.uint8)
    mask[0, 0, 0, 0], mask[0, 1, 1, 1], mask[0, 1, 3, 7], mask[0, 0, 0, 8] = 1, 2, 2, 1
    flags = organ_tokens(mask, (2, 2, 4), 3)
    # tokens in the order depth, height, width; the ninth column fills no patch
    assert flags.int().tolist() == [[[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]]]


@pytest.mark.parametrize(
    "place", [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)]
)
def test_an_organ_on_any_face_is_not_intact(place: tuple[int, int, int]) -> None:
    mask = torch.zeros(1, 3, 3, 3, dtype=torch.uint8)
    mask[0, 1, 1, 1] = 1
    assert intact_organs(mask, 2).tolist() == [[True, False]]
    mask[(0, *place)] = 1
    assert intact_organs(mask, 2).tolist() == [[False, False]]


def test_pooling_depends_on_the_tokens_of_the_organ_alone() -> None:
    torch.manual_seed(0)
    pool = AnatomyPool(["lung", "heart"], 8, embed_dim=3, num_heads=2).eval()
    torch.nn.init.normal_(pool.query)
    levels = torch.randn(2, 4, 5, 8)
    flags = torch.tensor([[[1, 1, 0, 0, 0], [0, 0, 0, 1, 0]], [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]])
    before = pool(levels, flags.bool())
    levels[0, :, 2:], levels[1, :, 3:] = 0.0, 9.0
    after = pool(levels, flags.bool())
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[0, 1], before[0, 1])
    assert after.isfinite().all()


def test_organs_are_named_once() -> None:
    with pytest.raises(ValueError, match="each once"):
        AnatomyPool(["lung", "lung"], 8, embed_dim=3)
