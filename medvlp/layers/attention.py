"""Multi-head self-attention with one front for all kernels.

Sequences come dense, all of one length, or packed, one behind the other without padding. Every
backend computes softmax(q k^T / sqrt(dh)) v over each sequence alone.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

AttentionBackend = Literal["sdpa", "flash", "varlen"]
"""sdpa: PyTorch's own choice of kernel; flash: the flash-attn package; varlen: PyTorch's packed
kernel. The last two need CUDA and half precision."""


class Attention(nn.Module):
    """Self-attention over dense (s n c) or packed (n c) tokens.

    Args:
        dim: Width of the tokens.
        num_heads: Must divide `dim`.
        qkv_bias: Whether the joint query, key, value projection has a bias.
        backend: Kernel, see `attend`.
        dropout: Probability in training, of the attention weights and of the output.
        causal: Let a token look at itself and what stands before it alone.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        backend: AttentionBackend = "sdpa",
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"width {dim} is not divisible by {num_heads} heads; choose num_heads among its "
                "divisors"
            )
        check_backend(backend)
        if backend == "varlen" and dropout > 0.0:
            raise ValueError(
                "attention backend 'varlen' has no dropout; set attention=sdpa or flash, or "
                "dropout to 0"
            )
        self.num_heads = num_heads
        self.backend: AttentionBackend = backend
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.dropout = dropout
        self.causal = causal

    def forward(
        self, x: Float[Tensor, "*s n c"], lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "*s n c"]:
        """Mix the tokens of each sequence.

        Args:
            x: Dense (s n c), or packed (n c) together with `lengths`.
            lengths: Tokens of each packed sequence; sums to n.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        how: dict[str, Any] = {
            "lengths": lengths,
            "backend": self.backend,
            "dropout": self._dropout_now,
            "causal": self.causal,
        }
        if lengths is None:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            return self._out(attend(q, k, v, **how).transpose(1, 2))
        q, k, v = qkv.unbind(1)
        return self._out(attend(q, k, v, **how))

    def first(self, x: Float[Tensor, "s n c"]) -> Float[Tensor, "s 1 c"]:
        """Mix the first token of each sequence alone: what `forward` returns for it.

        One query has no use for another kernel than PyTorch's own.
        """
        x = x[:, :1] if self.causal else x
        width, bias = x.shape[-1], self.qkv.bias
        biases = (None, None) if bias is None else (bias[:width], bias[width:])
        q = F.linear(x[:, :1], self.qkv.weight[:width], biases[0])
        kv = F.linear(x, self.qkv.weight[width:], biases[1])
        q = q.unflatten(-1, (1, self.num_heads, -1))
        kv = kv.unflatten(-1, (2, self.num_heads, -1))
        q, k, v = (y.transpose(1, 2) for y in (*q.unbind(2), *kv.unbind(2)))
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self._dropout_now)
        return self._out(mixed.transpose(1, 2))

    @property
    def _dropout_now(self) -> float:
        return self.dropout if self.training else 0.0

    def _out(self, mixed: Tensor) -> Tensor:
        projected = self.proj(mixed.flatten(-2))
        prob = self._dropout_now
        return F.dropout(projected, prob) if prob else projected

    def extra_repr(self) -> str:
        """Show the backend in the printed model."""
        return f"num_heads={self.num_heads}, backend={self.backend}"


def attend(
    q: Float[Tensor, "*shape"],
    k: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    *,
    lengths: Sequence[int] | None,
    backend: AttentionBackend = "sdpa",
    dropout: float = 0.0,
    causal: bool = False,
) -> Float[Tensor, "*shape"]:
    """Attend within each sequence.

    Args:
        q: Dense (s heads n dh) when `lengths` is None, else packed (n heads dh).
        k: As `q`.
        v: As `q`.
        lengths: Tokens of each packed sequence. "sdpa" makes one call per run of equal lengths,
            so sort sequences by length.
        backend: Kernel; all agree within rounding.
        dropout: Probability of an attention weight to be dropped; not by "varlen".
        causal: Let a token look at itself and what stands before it alone; dense "sdpa" only.

    Raises:
        ValueError: If the lengths do not add up, or the backend cannot serve these tensors.
    """
    _check_sequences(q, lengths, backend, causal)
    if backend == "sdpa":
        if lengths is None:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
        return _sdpa_runs(q, k, v, lengths, dropout)
    _check_half_precision_cuda(q, backend)
    if lengths is not None:
        return _packed_kernel(q, k, v, lengths, backend, dropout)
    num_sequences, _, length, _ = q.shape
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    mixed = _packed_kernel(q, k, v, [length] * num_sequences, backend, dropout)
    return mixed.unflatten(0, (num_sequences, length)).transpose(1, 2)


def check_backend(backend: str) -> None:
    """Refuse an unknown attention backend, or one whose package is absent.

    Raises:
        ValueError: If the name is unknown.
        ImportError: If "flash" is asked for and flash-attn is not installed.
    """
    if backend not in get_args(AttentionBackend):
        known = ", ".join(get_args(AttentionBackend))
        raise ValueError(f"attention backend {backend!r} is unknown; choose one of {known}")
    if backend == "flash":
        _flash_kernel()


def _check_sequences(
    q: Tensor, lengths: Sequence[int] | None, backend: AttentionBackend, causal: bool
) -> None:
    if lengths is not None and sum(lengths) != q.shape[0]:
        raise ValueError(
            f"lengths sum to {sum(lengths)}, {q.shape[0]} packed tokens came; pass the number of "
            "tokens of every sequence"
        )
    if causal and (backend != "sdpa" or lengths is not None):
        raise ValueError(
            f"causal attention takes dense sequences and the backend sdpa, {backend!r} with "
            f"{'packed' if lengths is not None else 'dense'} sequences came; set attention=sdpa"
        )


def _sdpa_runs(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], dropout: float) -> Tensor:
    mixed, start = [], 0
    for length, run in groupby(lengths):
        count = len(list(run))
        rows = slice(start, start + count * length)
        start = rows.stop
        dense = [x[rows].unflatten(0, (count, length)).transpose(1, 2) for x in (q, k, v)]
        run_mixed = F.scaled_dot_product_attention(dense[0], dense[1], dense[2], dropout_p=dropout)
        mixed.append(run_mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed)


def _packed_kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    backend: AttentionBackend,
    dropout: float,
) -> Tensor:
    bounds, longest = _bounds(tuple(lengths), q.device), max(lengths)
    if backend == "flash":
        return _flash_kernel()(q, k, v, bounds, bounds, longest, longest, dropout_p=dropout)
    from torch.nn.attention.varlen import varlen_attn

    return cast(Tensor, varlen_attn(q, k, v, bounds, bounds, longest, longest))


@lru_cache(maxsize=64)
def _bounds(lengths: tuple[int, ...], device: torch.device) -> Int[Tensor, " q"]:
    # Shared by all blocks and kept for backward, hence never an inference tensor.
    with torch.inference_mode(False):
        bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return bounds.to(device, non_blocking=True)


def _check_half_precision_cuda(q: Tensor, backend: str) -> None:
    if q.device.type != "cuda" or q.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"attention backend {backend!r} takes float16 or bfloat16 on CUDA, {q.dtype} on "
            f"{q.device.type} came; set attention=sdpa, or train on a GPU with precision=bf16-mixed"
        )


def _flash_kernel() -> Callable[..., Tensor]:
    try:
        from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "attention backend 'flash' needs the flash-attn package: pip install 'medvlp[flash]', "
            "or set attention=sdpa"
        ) from error
    return flash_attn_varlen_func
