import pytest
import torch

from medvlp.layers.block import Block
from medvlp.layers.drop_path import DropPath, drop_path_ramp
from medvlp.layers.mlp import Mlp
from medvlp.layers.patch_dropout import PatchDropout
from medvlp.layers.pooling import ClsPooling, DualTokenPooling, MeanMaxPooling


def test_the_mlp_gives_the_same_with_and_without_gradients() -> None:
    mlp, x = Mlp(6, 12), torch.randn(2, 5, 6)
    with torch.no_grad():
        inferred = mlp(x)
    assert torch.equal(inferred, mlp(x))


def test_the_block_leaves_its_input_alone() -> None:
    block, x = Block(6, 2), torch.randn(2, 5, 6)
    before = x.clone()
    with torch.no_grad():
        block(x)
    assert torch.equal(x, before)


def test_drop_path_drops_whole_sequences_and_keeps_the_mean() -> None:
    drop = DropPath(0.25)
    dense = drop(torch.ones(4000, 2, 1))
    assert dense.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(dense[:, 0], dense[:, 1])
    assert dense.mean().item() == pytest.approx(1.0, abs=0.05)
    packed = drop(torch.ones(5, 1), [2, 3]).flatten().tolist()
    assert len(set(packed[:2])) == len(set(packed[2:])) == 1


def test_drop_path_is_off_in_evaluation() -> None:
    x = torch.randn(3, 2, 1)
    assert DropPath(0.9).eval()(x) is x


def test_drop_path_rises_linearly() -> None:
    assert drop_path_ramp(0.2, 12)[1] == pytest.approx(0.2 / 11)
    assert drop_path_ramp(0.2, 1) == [0.0]


@pytest.mark.parametrize(("length", "prob", "kept"), [(5, 0.5, 2), (3, 0.9, 1), (4, 0.0, 4)])
def test_patch_dropout_keeps_distinct_tokens(length: int, prob: float, kept: int) -> None:
    patches = torch.arange(float(length)).expand(6, length)[:, :, None]
    result = PatchDropout(prob)(patches)
    assert result.shape == (6, kept, 1)
    assert all(len(set(row)) == kept for row in result[:, :, 0].tolist())


@pytest.mark.parametrize("module", [DropPath, PatchDropout])
def test_probabilities_outside_the_range_are_refused(module: type) -> None:
    with pytest.raises(ValueError, match=r"1.0 is outside \[0, 1\)"):
        module(1.0)


def test_poolings_by_hand() -> None:
    tokens = torch.tensor([[[9.0], [7.0], [1.0], [5.0]]])
    assert ClsPooling()(tokens, 2).tolist() == [[9.0]]
    assert MeanMaxPooling()(tokens, 2).tolist() == [[3.0, 5.0]]
    assert DualTokenPooling()(tokens, 2).tolist() == [[[9.0, 3.0], [7.0, 3.0]]]
    with pytest.raises(ValueError, match="has none"):
        ClsPooling()(tokens, 0)
