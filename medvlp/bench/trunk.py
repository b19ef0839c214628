"""Forward pass of a full-size image tower: seconds, FLOPs, rate against its bare products, memory.

The floor is measured in the same run: the same matrix products, alone, in turn with the tower.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from medvlp.bench.matrix_products import BareProducts, record_products
from medvlp.bench.record import bf16_units, peak_memory_mib, publish
from medvlp.bench.timing import interleaved
from medvlp.config import config_dir, register_resolvers
from medvlp.types import Size3D


def run(options: argparse.Namespace) -> None:
    """Measure every model with every number of scans, and publish the table."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = []
    for name in options.models:
        model_path(name)  # a misspelt name stops here, not in a child process
    for name in options.models:
        for num_scans in options.scans:
            Console(stderr=True).print(f"measuring {name}, {num_scans} scans", highlight=False)
            memory = peak_memory(name, num_scans, device, options.threads)
            rows.append(measure(name, num_scans, device, options.repeats) | memory)
    notes = [
        f"fp32 forward without gradients, one study, median of {options.repeats} after a warm-up; "
        "CPU s: all threads of the process",
        "of bare: FLOP rate of the tower relative to its linear and attention products run as "
        "plain mm and bmm (scores in pieces that stay in the cache), in turn with it",
        f"bf16 gain: fp32 seconds / bf16-autocast seconds ({_bf16_note(device)}); bare bf16 gain: "
        "the same ratio of the products alone, which bounds it",
        "peak and weights in MiB; the peak is of a fresh process (of the device on a GPU)",
    ]
    publish("trunk", rows, notes, options.json)


def measure(name: str, num_scans: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """Time fp32, its bare products and bf16 autocast in turn, and count FLOPs."""
    tower = build_tower(name).to(device)
    forward = forward_of(tower, num_scans, device)

    def autocast() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return forward()

    products = record_products(forward)
    bare = BareProducts(products, device)
    bare_bf16 = BareProducts(products, device, torch.bfloat16)
    flops = count_flops(forward)
    works = {"fp32": forward, "bare": bare, "bf16": autocast, "bare bf16": bare_bf16}
    times = interleaved(works, repeats, device)
    clock = "wall" if device.type == "cuda" else "cpu"
    seconds = {key: getattr(timing, clock) for key, timing in times.items()}
    bare_rate = sum(product.flops for product in products) / seconds["bare"]
    return {
        "model": name.removeprefix("hlip_vit_base_"),
        "scans": num_scans,
        "GFLOP": flops / 1e9,
        "wall s": times["fp32"].wall,
        "CPU s": times["fp32"].cpu,
        "GFLOP/s": flops / seconds["fp32"] / 1e9,
        "bare GFLOP/s": bare_rate / 1e9,
        "of bare": f"{flops / seconds['fp32'] / bare_rate:.0%}",
        "bf16 gain": seconds["fp32"] / seconds["bf16"],
        "bare bf16 gain": seconds["bare"] / seconds["bare bf16"],
    }


def count_flops(work: Callable[[], object]) -> int:
    """Count floating-point operations of matrix products and convolutions."""

    def attention_flops(
        query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any
    ) -> int:
        return sdpa_flop_count(query, key, value)

    # PyTorch's own table lacks the CPU kernel
    cpu_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={cpu_kernel: attention_flops}) as counter:
        work()
    return counter.get_total_flops()


def build_tower(name: str, *, depth: int = 0, attention: str | None = None) -> nn.Module:
    """Build the image tower of a model in `conf/model`, in evaluation mode.

    Args:
        name: Of the model.
        depth: Its first blocks alone; 0 for all.
        attention: Backend instead of the one that the model names.
    """
    from hydra.utils import instantiate

    register_resolvers()
    vision = OmegaConf.select(OmegaConf.load(model_path(name)), "model.vision")
    vision.levels = vision.levels[: depth or None]
    vision.attention = attention or vision.attention
    return instantiate(vision, _convert_="all").eval().requires_grad_(False)


def model_path(name: str) -> Path:
    """Find the YAML file of a model.

    Raises:
        FileNotFoundError: If there is no such model.
    """
    folder = config_dir() / "model"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise FileNotFoundError(f"no model {name!r} in conf/model; there are {known}")
    return path


def forward_of(tower: nn.Module, num_scans: int, device: torch.device) -> Callable[[], Tensor]:
    """Return a function that encodes one study of the tower's native size."""
    size = native_size(tower)
    channels = int(tower.get_parameter("patch_embed.proj.weight").shape[1])
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(num_scans, channels, *size, generator=generator).to(device)
    counts = torch.tensor([num_scans])

    def forward() -> Tensor:
        with torch.no_grad():
            return tower(image, counts)

    return forward


def native_size(tower: nn.Module) -> Size3D:
    """Return the volume that gives the token grid of the position table."""
    grid = tower.get_parameter("pos_embed").shape[1:4]
    patch = tower.get_parameter("patch_embed.proj.weight").shape[2:]
    depth, height, width = (g * p for g, p in zip(grid, patch, strict=True))
    return depth, height, width


def peak_memory(
    name: str, num_scans: int, device: torch.device, threads: int
) -> dict[str, float | None]:
    """Measure the peak of one forward, in a process of its own unless on a GPU."""
    if device.type == "cuda":
        return _peak_of_forward(name, num_scans, str(device), threads)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_of_forward, name, num_scans, str(device), threads).result()


def _peak_of_forward(
    name: str, num_scans: int, device_name: str, threads: int
) -> dict[str, float | None]:
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    tower = build_tower(name).to(device)
    weights = sum(p.numel() * p.element_size() for p in tower.parameters()) / 2**20
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    forward_of(tower, num_scans, device)()
    peak = peak_memory_mib()
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    return {"peak": peak, "weights": weights}


def _bf16_note(device: torch.device) -> str:
    if device.type == "cuda":
        return "tensor cores"
    return f"bf16 units of this CPU: {bf16_units() or 'none'}"
