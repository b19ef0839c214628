"""JPEG shards like UniMed's: shares of its 13 sets, sizes of their sources, painted images."""

import io
import tarfile
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.phantom.image_painter import FINDINGS, paint
from medvlp.phantom.unimed_components import COMPONENTS, Component

# Width, height, mode. Known: RadImageNet's and CheXpert-small's; ChestX-ray8's and the sets of
# fundus photographs are 1024 or more. Figures and tiles differ: a middle size stands for all.
STORED = {
    "radimagenet_webdataset": (224, 224, "RGB"),
    "chexpert_webdataset": (390, 320, "L"),
    "openi_webdataset": (512, 624, "L"),
    "chest_xray8_webdataset": (1024, 1024, "L"),
    "mimic_cxr_webdataset": (1024, 840, "L"),
    "rocov2_webdataset": (600, 480, "RGB"),
    "pmc_oa_webdataset": (512, 400, "RGB"),
    "llava_med_alignment_webdataset": (700, 560, "RGB"),
    "llava_med_instruct_webdataset": (700, 560, "RGB"),
    "quilt_1m_webdataset": (800, 600, "RGB"),
    "retina_part1_webdataset": (1024, 1024, "RGB"),
    "retina_part2_webdataset": (1024, 1024, "RGB"),
    "retina_part3_webdataset": (1024, 1024, "RGB"),
}
_QUALITY = 90  # 0.2 to 0.5 bytes a pixel, as published sample images have
_PER_SHARD = 32
_DIFFERENT = 4  # images of a component; captions all differ


def write_shards(folder: Path, num_images: int) -> str:
    """Write the shards, components mixed evenly, and return their pattern."""
    generator = np.random.default_rng(0)
    chosen = generator.permutation(np.repeat(np.arange(len(COMPONENTS)), _counts(num_images)))
    pictures = [[_jpeg(one, k, generator) for k in range(_DIFFERENT)] for one in COMPONENTS]
    for start in range(0, num_images, _PER_SHARD):
        path = folder / f"dataset-{start // _PER_SHARD + 1:06d}.tar"
        with tarfile.open(path, "w") as archive:
            for number in range(start, min(start + _PER_SHARD, num_images)):
                component = COMPONENTS[chosen[number]]
                modality = component.modalities[number % len(component.modalities)]
                finding = FINDINGS[modality][number % len(FINDINGS[modality])]
                text = component.text(modality, finding, generator)
                _add(archive, f"{number:06d}.jpg", pictures[chosen[number]][number % _DIFFERENT])
                _add(archive, f"{number:06d}.txt", text.encode())
    return str(folder / "dataset-*.tar")


def mean_pixels() -> float:
    """Say how many pixels an image of the mix has on average."""
    shares = [component.shards for component in COMPONENTS]
    sizes = [STORED[component.folder] for component in COMPONENTS]
    return float(np.average([width * height for width, height, _ in sizes], weights=shares))


def _counts(num_images: int) -> Int[ndarray, " c"]:
    """Share out the images, each component one at least."""
    shares = np.array([component.shards for component in COMPONENTS])
    counts = np.maximum(1, shares * num_images // shares.sum())
    counts[counts.argmax()] += num_images - counts.sum()
    return counts


def _jpeg(component: Component, number: int, generator: np.random.Generator) -> bytes:
    from PIL import Image

    width, height, mode = STORED[component.folder]
    modality = component.modalities[number % len(component.modalities)]
    pixels = paint(modality, FINDINGS[modality][0], generator, size=max(width, height))
    out = io.BytesIO()
    image = Image.fromarray(pixels[:height, :width]).convert(mode)
    image.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
