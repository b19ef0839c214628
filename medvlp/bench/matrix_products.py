"""The bare matrix products of a forward pass: the floor that a tower is measured against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu,
    _ATEN._scaled_dot_product_flash_attention,
    _ATEN._scaled_dot_product_efficient_attention,
    _ATEN._scaled_dot_product_cudnn_attention,
}


@dataclass(frozen=True)
class Product:
    """(batch, m, k) @ (batch, k, n); `kind` is "linear" or "attention"."""

    kind: str
    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.k * self.n


class ProductRecorder(TorchDispatchMode):
    """List the matrix products of what runs inside, in order, with their shapes.

    Convolutions whose stride is their kernel count as the products they are; use without
    gradients, and not under `inference_mode`, which hides the products inside linear layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator, and note it if it is a product."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket
        if name is _ATEN.mm:
            self._linear(args[0], args[1])
        elif name is _ATEN.addmm:
            self._linear(args[1], args[2])
        elif name is _ATEN.bmm:
            batch, m, k = args[0].shape
            self.products.append(Product("attention", batch, m, k, args[1].shape[2]))
        elif name is _ATEN.convolution:
            self._convolution(args[1], result)
        elif name in _ATTENTION:
            self._attention(args[0], args[1])
        return result

    def _linear(self, left: Tensor, right: Tensor) -> None:
        self.products.append(Product("linear", 1, left.shape[0], left.shape[1], right.shape[1]))

    def _convolution(self, weight: Tensor, result: Tensor) -> None:
        rows = result.numel() // result.shape[1]
        self.products.append(Product("linear", 1, rows, weight[0].numel(), weight.shape[0]))

    def _attention(self, query: Tensor, key: Tensor) -> None:
        batch, (m, k), n = query.shape[0] * query.shape[1], query.shape[2:], key.shape[2]
        self.products.append(Product("attention", batch, m, k, n))
        self.products.append(Product("attention", batch, m, n, k))


def record_products(work: Callable[[], object]) -> list[Product]:
    """Run the work once without gradients and list its matrix products."""
    with torch.no_grad(), ProductRecorder() as recorder:
        work()
    return recorder.products


class BareProducts:
    """Run a list of products as `torch.mm` and `torch.bmm` on buffers made beforehand.

    Attention scores of all heads would be bound by memory, which fused kernels avoid; so products
    of attention are run in pieces, by rows of one head or by some heads, whose scores stay in
    the cache. The floor is then one of arithmetic.

    Args:
        products: In order.
        device: Where to run.
        dtype: Of all operands.
        piece_bytes: Size of the scores of a piece; default 1 MiB on a CPU, 1 GiB on a GPU.
    """

    def __init__(
        self,
        products: list[Product],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        piece_bytes: int | None = None,
    ) -> None:
        piece_bytes = piece_bytes or (2**20 if device.type == "cpu" else 2**30)
        self.products = products
        self._buffers: dict[Product, tuple[Tensor, Tensor, Tensor]] = {}
        for product in dict.fromkeys(products):
            heads, rows = _piece(product, piece_bytes // dtype.itemsize)
            shapes = ((rows, product.k), (product.k, product.n), (rows, product.n))
            left, right, out = (
                torch.rand(heads, *shape, device=device, dtype=dtype) for shape in shapes
            )
            self._buffers[product] = (left, right, out)

    def __call__(self) -> None:
        """Run all products in order."""
        for product in self.products:
            left, right, out = self._buffers[product]
            heads, rows = out.shape[:2]
            if product.kind == "linear":
                torch.mm(left[0], right[0], out=out[0])
                continue
            for start in range(0, product.batch, heads):
                count = min(heads, product.batch - start)
                for row in range(0, product.m, rows):
                    part = slice(0, min(rows, product.m - row))
                    torch.bmm(left[:count, part], right[:count], out=out[:count, part])


def _piece(product: Product, elements: int) -> tuple[int, int]:
    """Choose heads and rows of a piece, so that its scores have at most so many elements."""
    if product.kind == "linear":
        return 1, product.m
    rows = min(product.m, max(32, elements // max(product.k, product.n)))
    return max(1, min(product.batch, elements // (rows * max(product.k, product.n)))), rows
