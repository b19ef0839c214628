import importlib.util

import pytest
import torch
from torch import Tensor

from medvlp.layers.attention import Attention, AttentionBackend, attend

HAS_FLASH = importlib.util.find_spec("flash_attn") is not None
BACKENDS = [
    "varlen",
    pytest.param("flash", marks=pytest.mark.skipif(not HAS_FLASH, reason="no flash-attn")),
]


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(dh)) v over (heads n dh)."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


@pytest.mark.parametrize("lengths", [[3, 3, 5], [4], [5, 2, 5, 5]])
def test_packed_sequences_attend_only_within_themselves(lengths: list[int]) -> None:
    q, k, v = torch.randn(3, sum(lengths), 2, 4)
    pieces = zip(*(x.transpose(0, 1).split(lengths, dim=1) for x in (q, k, v)), strict=True)
    expected = torch.cat([plain_attention(*piece) for piece in pieces], dim=1).transpose(0, 1)
    actual = attend(q, k, v, lengths=lengths, backend="sdpa")
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_dense_and_packed_tokens_give_the_same() -> None:
    attention = Attention(12, 3)
    x = torch.randn(4, 7, 12)
    packed = attention(x.flatten(0, 1), [7] * 4)
    torch.testing.assert_close(packed.view_as(x), attention(x), rtol=0, atol=1e-6)


def test_qkv_rows_are_query_then_key_then_value_and_head_major() -> None:
    attention = Attention(6, 2)
    x = torch.randn(1, 5, 6)
    q, k, v = (part.view(5, 2, 3).transpose(0, 1) for part in attention.qkv(x)[0].split(6, dim=-1))
    expected = attention.proj(plain_attention(q, k, v).transpose(0, 1).reshape(5, 6))
    torch.testing.assert_close(attention(x)[0], expected, rtol=0, atol=1e-6)


def test_lengths_that_do_not_sum_up_are_refused() -> None:
    q = torch.randn(5, 2, 4)
    with pytest.raises(ValueError, match="lengths sum to 4, 5 packed tokens"):
        attend(q, q, q, lengths=[2, 2], backend="sdpa")


def test_width_must_be_divisible_by_the_heads() -> None:
    with pytest.raises(ValueError, match="not divisible by 5 heads"):
        Attention(12, 5)


def test_a_cuda_backend_says_what_it_needs() -> None:
    q = torch.randn(1, 2, 5, 4)
    with pytest.raises(ValueError, match=r"bfloat16 on CUDA, torch\.float32 on cpu"):
        attend(q, q, q, lengths=None, backend="varlen")


@pytest.mark.skipif(HAS_FLASH, reason="flash-attn is installed")
def test_an_absent_flash_attn_is_named() -> None:
    with pytest.raises(ImportError, match=r"medvlp\[flash\]"):
        Attention(12, 3, backend="flash")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [[300, 300, 700], None])
def test_gpu_backends_equal_sdpa(backend: AttentionBackend, lengths: list[int] | None) -> None:
    shape = (2, 3, 400, 64) if lengths is None else (1300, 3, 64)
    q, k, v = torch.randn(3, *shape, device="cuda", dtype=torch.bfloat16).requires_grad_()
    expected = attend(q, k, v, lengths=lengths, backend="sdpa")
    actual = attend(q, k, v, lengths=lengths, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-2)
