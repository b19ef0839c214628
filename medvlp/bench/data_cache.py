"""The cache: random crops and whole prepared volumes, sizes of files, and the codec's rivals."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from medvlp.bench.data_files import RESCALE, Files, chest, evict
from medvlp.bench.data_reader import WAYS
from medvlp.bench.timing import interleaved
from medvlp.data.batch_memory import empty_batch
from medvlp.data.cache import VolumeCache
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.readers.registry import read
from medvlp.data.recipe import Region
from medvlp.types import Size3D

_CPU = torch.device("cpu")


def crops(files: Files, crop: Size3D, repeats: int) -> list[dict[str, Any]]:
    """Read random crops of a volume stored at native resolution, and by way of its .nii.gz."""
    cache, array = VolumeCache(files.folder / "native"), chest(files.shape)
    cache.write("scan", array, {})
    stored, source = cache.path_of("scan"), files.paths[0]
    size = tuple(min(pair) for pair in zip(crop, files.shape, strict=True))
    out = np.empty(size, np.int16)
    draw = partial(_region, np.random.default_rng(0), files.shape, size)

    def cached(cold: bool = False) -> None:
        if cold:
            evict(stored)
        cache.read("scan", draw(), out=out)

    routes: dict[str, Callable[[], object]] = {
        f".nii.gz, {name}": partial(work, source) for name, work in WAYS.items()
    }
    works = {"cache": cached, "cache, cold": partial(cached, True), **routes}
    works |= {".nii.gz, nibabel slicer": lambda: _sliced(source, draw())}
    times = interleaved(works, repeats, _CPU)
    if not evict(stored):
        del times["cache, cold"]
    return [
        {
            f"crop {' x '.join(map(str, size))} by": name,
            "CPU ms": 1e3 * timing.cpu,
            "wall ms": 1e3 * timing.wall,
            "crops/s": 1 / timing.wall,
            "cache is faster by, CPU time": timing.cpu / times["cache"].cpu,
            "file / .nii.gz": _share(stored, source) if name == "cache" else None,
            "file / raw": stored.stat().st_size / files.num_bytes if name == "cache" else None,
        }
        for name, timing in times.items()
    ]


def _region(generator: np.random.Generator, shape: Size3D, size: tuple[int, ...]) -> Region:
    """Cut a crop of a size out of a shape, at random."""
    starts = [
        int(generator.integers(0, length - part + 1))
        for length, part in zip(shape, size, strict=True)
    ]
    depth, height, width = (slice(s, s + n) for s, n in zip(starts, size, strict=True))
    return depth, height, width


def whole(files: Files, recipes: dict[str, CTRecipe], repeats: int) -> list[dict[str, Any]]:
    """Read prepared volumes as the loader does, each into its row of a batch."""
    cache, source = VolumeCache(files.folder / "prepared_volumes"), files.paths[0]
    scan = read(source).restated(rescale=RESCALE)
    pinned = torch.cuda.is_available()
    works: dict[str, Callable[[], object]] = {}
    for name, recipe in recipes.items():
        array = recipe.prepare(scan).arrays["image"]
        cache.write(name, array, {})
        batch = empty_batch((1, 1, *recipe.size), recipe.packed_dtype)
        out = (batch.pin_memory() if pinned else batch)[0].numpy()
        depth, height, width = array.shape
        works[name] = partial(recipe.pack, partial(_into, cache, name), (depth, height, width), out)
        works[f"{name}, cold"] = partial(_cold, cache, name, works[name])
    times = interleaved(works, repeats, _CPU)
    if not evict(cache.path_of(next(iter(recipes)))):
        times = {name: timing for name, timing in times.items() if "cold" not in name}
    return [
        {
            "prepared volume stored as": name,
            "into": "pinned memory" if pinned else "ordinary memory",
            "CPU ms": 1e3 * timing.cpu,
            "wall ms": 1e3 * timing.wall,
            "volumes/s": 1 / timing.wall,
            "volumes/CPU s": 1 / timing.cpu,
            "file / .nii.gz": _share(cache.path_of(name.removesuffix(", cold")), source),
        }
        for name, timing in times.items()
    ]


def codecs(files: Files, recipes: dict[str, CTRecipe], repeats: int) -> list[dict[str, Any]]:
    """Compress and decompress prepared volumes with the cache's codec and with others."""
    import blosc2

    scan = read(files.paths[0]).restated(rescale=RESCALE)
    rows = []
    for stored_as, recipe in recipes.items():
        array = recipe.prepare(scan).arrays["image"]
        for codec, level in (("LZ4", 1), ("LZ4", 9), ("ZSTD", 1), ("ZSTD", 3)):
            for name in ("SHUFFLE", "BITSHUFFLE"):
                parameters = blosc2.CParams(
                    codec=blosc2.Codec[codec],
                    clevel=level,
                    filters=[blosc2.Filter[name]],
                    nthreads=1,
                )
                rows.append(
                    {"codec": f"{codec} {level} {name.lower()}", "stored as": stored_as}
                    | _codec(array, parameters, repeats)
                )
    return rows


def _codec(array: np.ndarray, parameters: Any, repeats: int) -> dict[str, float]:
    import blosc2

    from medvlp.data.cache import piece_shapes

    packed = partial(blosc2.asarray, array, cparams=parameters, **piece_shapes(array))
    stored: Any = packed()
    times = interleaved({"pack": packed, "unpack": lambda: stored[:]}, repeats, _CPU)
    return {
        "raw / stored": array.nbytes / stored.schunk.cbytes,
        "compress MB/CPU s": array.nbytes / times["pack"].cpu / 1e6,
        "decompress MB/CPU s": array.nbytes / times["unpack"].cpu / 1e6,
    }


def _into(cache: VolumeCache, scan_id: str, region: Region, out: np.ndarray) -> None:
    cache.read(scan_id, region, out=out)


def _cold(cache: VolumeCache, scan_id: str, work: Callable[[], object]) -> None:
    evict(cache.path_of(scan_id))
    work()


def _sliced(source: Any, region: Region) -> np.ndarray:
    from nibabel.nifti1 import load

    return np.asarray(load(source).dataobj[tuple(reversed(region))])


def _share(stored: Any, source: Any) -> float:
    return stored.stat().st_size / source.stat().st_size
