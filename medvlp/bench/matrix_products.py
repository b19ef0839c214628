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

    Attention scores are written out in full here, which fused kernels avoid: a tower may be
    faster than its bare products. Sequences of one call are worked off one head at a time where
    the scores of all heads would not fit into `max_bytes`.
    """

    def __init__(
        self,
        products: list[Product],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        max_bytes: int = 2**30,
    ) -> None:
        self.products = products
        self._buffers: dict[Product, tuple[Tensor, Tensor, Tensor, int]] = {}
        for product in dict.fromkeys(products):
            largest = max(product.m * product.n, product.m * product.k, product.k * product.n)
            step = min(product.batch, max(1, max_bytes // (largest * dtype.itemsize)))
            shapes = ((product.m, product.k), (product.k, product.n), (product.m, product.n))
            left, right, out = (
                torch.rand(step, *shape, device=device, dtype=dtype) for shape in shapes
            )
            self._buffers[product] = (left, right, out, step)

    def __call__(self) -> None:
        """Run all products in order."""
        for product in self.products:
            left, right, out, step = self._buffers[product]
            if product.batch == 1:
                torch.mm(left[0], right[0], out=out[0])
                continue
            for start in range(0, product.batch, step):
                count = min(step, product.batch - start)
                torch.bmm(left[:count], right[:count], out=out[:count])
