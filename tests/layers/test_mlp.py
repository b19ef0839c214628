"""Activations by formula, by gradient and by the memory they keep; the text head."""

import pytest
import torch
import torch.nn.functional as F

from medvlp.layers.activations import quick_gelu
from medvlp.layers.attention import Attention
from medvlp.layers.block import Block
from medvlp.layers.mlp import Mlp, MlpProjection, check_activation


def test_quick_gelu_is_its_formula_and_so_is_its_gradient() -> None:
    x = torch.linspace(-6, 6, 50, dtype=torch.float64, requires_grad=True)
    plain = x * torch.sigmoid(1.702 * x)
    torch.testing.assert_close(quick_gelu(x), plain, rtol=0, atol=1e-14)
    ours, expected = (torch.autograd.grad(y.sum(), x)[0] for y in (quick_gelu(x), plain))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)


def test_quick_gelu_keeps_one_tensor_for_the_backward_pass() -> None:
    kept: list[int] = []
    x = torch.randn(10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, id):
        quick_gelu(x)
        assert kept == [10]
        x * torch.sigmoid(1.702 * x)
    assert sum(kept) == 40  # the plain formula: its input, and the sigmoid twice


def test_quick_gelu_leaves_its_input_alone() -> None:
    x = torch.randn(5)
    before = x.clone()
    with torch.no_grad():
        quick_gelu(x)
    assert torch.equal(x, before)


def test_an_mlp_by_hand() -> None:
    x = torch.randn(2, 5, 6)
    for name, act in (("gelu", F.gelu), ("quick_gelu", lambda y: y * (1.702 * y).sigmoid())):
        mlp = Mlp(6, 12, activation=name)
        expected = mlp.fc2(act(mlp.fc1(x)))
        torch.testing.assert_close(mlp(x), expected, rtol=0, atol=1e-6)


def test_unknown_activations_are_refused() -> None:
    with pytest.raises(ValueError, match="'relu' is unknown; choose one of gelu, quick_gelu"):
        check_activation("relu")


def test_the_text_head_has_two_matrices_and_an_exact_gelu() -> None:
    head, x = MlpProjection(6, 5, 4), torch.randn(3, 6)
    assert {name: tuple(p.shape) for name, p in head.named_parameters()} == {
        "fc1.weight": (5, 6),
        "fc2.weight": (4, 5),
    }
    torch.testing.assert_close(head(x), F.gelu(x @ head.fc1.weight.T) @ head.fc2.weight.T)


def test_the_first_token_alone_is_that_of_the_whole_block() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 12)
    for bias in (False, True):
        attention = Attention(12, 3, qkv_bias=bias)
        torch.testing.assert_close(attention.first(x), attention(x)[:, :1], rtol=0, atol=1e-6)
    block = Block(12, 3, activation="quick_gelu")
    torch.testing.assert_close(block(x, only_first=True), block(x)[:, :1], rtol=0, atol=1e-6)
