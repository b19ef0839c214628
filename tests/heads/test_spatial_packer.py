import pytest
import torch

from medvlp.heads.spatial_packer import MeanPacker, SequencePacker, SpatialPacker

GRID = (2, 4, 6)


def places() -> torch.Tensor:
    """Tokens that say where they are: channels depth, height, width."""
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in GRID), indexing="ij")
    return torch.stack(axes, dim=-1).reshape(1, -1, 3)


def test_cells_are_neighbours_in_the_order_of_the_axes() -> None:
    packer = MeanPacker(3, 3, kernel=(1, 2, 3), grid=GRID)
    packer.projection = torch.nn.Identity()  # pyright: ignore
    expected = [[d, h + 0.5, w + 1.0] for d in (0.0, 1.0) for h in (0.0, 2.0) for w in (0.0, 3.0)]
    assert packer(places())[0].tolist() == expected
    assert packer.num_tokens == len(expected) == 8


def test_runs_go_along_the_sequence() -> None:
    packer = SequencePacker(3, 3, run=4, num_patches=48)
    packer.projection = torch.nn.Identity()  # pyright: ignore
    packed = packer(places())[0]
    assert packed.shape == (12, 3) and packer.num_tokens == 12
    assert packed[1].tolist() == [0.0, 0.5, 2.5]  # (0, 0, 4), (0, 0, 5), (0, 1, 0), (0, 1, 1)


def test_a_cell_sees_its_own_tokens_alone() -> None:
    torch.manual_seed(0)
    packer = SpatialPacker(6, 5, kernel=(2, 2, 2), grid=GRID).eval()
    tokens = torch.randn(2, 48, 6)
    packed = packer(tokens)
    assert packed.shape == (2, 6, 5)
    other = tokens.clone()
    other[1, -1] += 1.0  # the last corner of the second volume
    changed = (packer(other) - packed).abs().amax(-1) > 1e-6
    assert changed.tolist() == [[False] * 6, [False] * 5 + [True]]
    weights = packer.weights(tokens)
    assert weights.shape == (2, 6, 8)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6))


def test_the_order_within_a_cell_does_not_matter() -> None:
    packer = SpatialPacker(6, 5, kernel=GRID, grid=GRID).eval()
    tokens = torch.randn(2, 48, 6)
    torch.testing.assert_close(packer(tokens), packer(tokens.flip(1)), rtol=0, atol=1e-6)


def test_dropout_is_for_training_alone() -> None:
    packer, tokens = SpatialPacker(6, 5, kernel=(2, 2, 2), grid=GRID), torch.randn(1, 48, 6)
    assert not torch.equal(packer(tokens), packer(tokens))
    assert torch.equal(packer.eval()(tokens), packer(tokens))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match=r"cells of \(1, 3, 3\) tokens do not divide the grid"):
        SpatialPacker(6, 5, kernel=(1, 3, 3), grid=GRID)
    with pytest.raises(ValueError, match="48 tokens do not divide into runs of 5"):
        SequencePacker(6, 5, run=5, num_patches=48)
    packers = (
        SpatialPacker(6, 5, kernel=(1, 2, 2), grid=GRID),
        MeanPacker(6, 5, kernel=(1, 2, 2), grid=GRID),
        SequencePacker(6, 5, run=8, num_patches=48),
    )
    for packer in packers:
        with pytest.raises(ValueError, match="49 tokens a volume came, the packer takes 48; leave"):
            packer(torch.zeros(1, 49, 6))
