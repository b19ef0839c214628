"""Studies of unequal numbers of scans in one batch: packed, padded to the longest, one by one.

Before anything is timed, all three must give the same features within 1e-5 in float32.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from medvlp.bench.padded_tower import PaddedTower
from medvlp.bench.record import peak_memory_mib, publish
from medvlp.bench.timing import interleaved
from medvlp.bench.trunk import build_tower, count_flops, model_path, native_size
from medvlp.vision.hierarchical_vit import HierarchicalViT

TOLERANCE = 1e-5
_WAYS = ("padded", "packed", "one by one")


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        model: Name in `conf/model`.
        num_scans: Scans of each study of the batch.
        depth: Blocks of the tower; 0 for all.
        attention: Backend of the packed tower.
        precision: fp32, or bf16 for autocast.
        device: As torch names it.
        threads: Of the CPU.
    """

    model: str
    num_scans: tuple[int, ...]
    depth: int
    attention: str
    precision: str
    device: str
    threads: int

    @property
    def fill(self) -> float:
        """Return the share of real scans in the padded batch."""
        return sum(self.num_scans) / (max(self.num_scans) * len(self.num_scans))


def run(options: argparse.Namespace) -> None:
    """Measure every model, and publish the table."""
    for name in options.models:
        model_path(name)  # a misspelt name stops here
    rows: list[dict[str, Any]] = []
    setting = None
    for name in options.models:
        Console(stderr=True).print(f"measuring {name}", highlight=False)
        setting = Setting(
            name,
            tuple(options.scans),
            options.depth,
            options.attention,
            options.precision,
            options.device,
            options.threads,
        )
        rows += measure(setting, options.repeats)
    assert setting is not None
    publish("ragged", rows, _notes(setting, options.repeats), options.json)


def measure(setting: Setting, repeats: int) -> list[dict[str, Any]]:
    """Compare the features, then time the three ways in turn; return a row for each."""
    torch.set_num_threads(setting.threads)
    device = torch.device(setting.device)
    differences = compare(setting)
    works = ways(setting)
    # FLOPs are counted without computing
    on_paper = ways(replace(setting, device="meta", precision="fp32", attention="sdpa"))
    times = interleaved(works, repeats, device)
    clock = "wall" if device.type == "cuda" else "cpu"
    rates = {way: sum(setting.num_scans) / getattr(times[way], clock) for way in _WAYS}
    return [
        {
            "way": way,
            "model": setting.model.removeprefix("hlip_vit_base_"),
            "volumes/s": rates[way],
            "of padded": f"{rates[way] / rates['padded']:.2f}x",
            "wall s": times[way].wall,
            "CPU s": times[way].cpu,
            "GFLOP": count_flops(on_paper[way]) / 1e9,
            "peak": _peak(setting, way),
            "largest difference": f"{differences[way]:.1e}",
        }
        for way in _WAYS
    ]


def compare(setting: Setting) -> dict[str, float]:
    """Return the largest difference of any feature from the study's alone, in float32.

    Raises:
        RuntimeError: If one is larger than `TOLERANCE`.
    """
    exact = replace(setting, precision="fp32", attention="sdpa")
    features = {way: work() for way, work in ways(exact).items()}
    alone = features["one by one"]
    differences = {way: float((found - alone).abs().max()) for way, found in features.items()}
    if max(differences.values()) > TOLERANCE:
        raise RuntimeError(
            f"features differ from those of each study alone by {differences}, at most {TOLERANCE} "
            "was expected: the ways do not compute the same, so their speed says nothing"
        )
    return differences


def ways(setting: Setting) -> dict[str, Callable[[], Float[Tensor, "b f"]]]:
    """Return the three ways to encode the same batch, each with its input ready on the device."""
    device = torch.device(setting.device)
    tower = build_tower(setting.model, depth=setting.depth, attention=setting.attention)
    assert isinstance(tower, HierarchicalViT)
    tower = tower.to(device)
    padded_tower = PaddedTower(tower)
    image = _volumes(tower, sum(setting.num_scans)).to(device)
    studies = image.split(setting.num_scans)
    padded = torch.nn.utils.rnn.pad_sequence(list(studies), batch_first=True)
    present = torch.arange(padded.shape[1])[None] < torch.tensor(setting.num_scans)[:, None]
    present, counts = present.to(device), torch.tensor(setting.num_scans)

    def one_by_one() -> Tensor:
        return torch.cat([tower(study, torch.tensor([len(study)])) for study in studies])

    works = {
        "padded": partial(padded_tower, padded, present),
        "packed": partial(tower, image, counts),
        "one by one": one_by_one,
    }
    return {way: partial(_without_gradients, works[way], setting) for way in _WAYS}


def _volumes(tower: HierarchicalViT, count: int) -> Float[Tensor, "n c d h w"]:
    channels = int(tower.get_parameter("patch_embed.proj.weight").shape[1])
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, *native_size(tower), generator=generator)


def _without_gradients(work: Callable[[], Tensor], setting: Setting) -> Tensor:
    kind = torch.device(setting.device).type
    autocast = (
        torch.autocast(kind, torch.bfloat16) if setting.precision == "bf16" else nullcontext()
    )
    with torch.no_grad(), autocast:
        return work()


def _peak(setting: Setting, way: str) -> float:
    """Measure the peak of one forward, in a process of its own unless on a GPU."""
    if torch.device(setting.device).type == "cuda":
        return _peak_of_way(setting, way)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_of_way, setting, way).result()


def _peak_of_way(setting: Setting, way: str) -> float:
    torch.set_num_threads(setting.threads)
    device = torch.device(setting.device)
    work = ways(setting)[way]
    if device.type != "cuda":
        work()
        return peak_memory_mib()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device) / 2**20


def _notes(setting: Setting, repeats: int) -> Sequence[str]:
    blocks = f"the first {setting.depth} blocks" if setting.depth else "all blocks"
    counts = ", ".join(map(str, setting.num_scans))
    return [
        f"one batch of {len(setting.num_scans)} studies of {counts} scans, {setting.fill:.0%} of "
        f"the longest; {blocks}; {setting.precision} forward without gradients, median of "
        f"{repeats} after a warm-up, in turn; {setting.device}, attention {setting.attention}",
        "volumes/s count real scans, by CPU seconds on a CPU and by the clock on a GPU; padding "
        "itself is not timed; padded: attention over a study is masked, the rest runs on all scans",
        "largest difference: of any feature from the same study alone, in fp32; peak in MiB with "
        "the inputs of all three ways, of a fresh process (of the device on a GPU)",
    ]
