"""Look at every 2D image once before training: what is damaged is known, counted and left out."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch.utils.data import DataLoader, Dataset

from medvlp.data.cache import require_writable, write_atomically
from medvlp.data.image_dataset import decode
from medvlp.data.image_sets import ImageSet
from medvlp.data.readers.registry import ReadError
from medvlp.data.records import Skip

_SUMMARY, _REFUSED, _QUARANTINE, _PICTURE = (
    "inspection.json",
    "refused.npy",
    "quarantine.csv",
    "quality.png",
)
_CHUNK = 64
_SHOWN = 24


@dataclass(frozen=True)
class Inspection:
    """What was found in a set of images.

    Attributes:
        folder: Holds quarantine.csv and quality.png.
        num_images: Looked at.
        refused: Positions of the images that cannot be used, rising.
        modes: Pillow mode to number of images: "L" grey, "RGB", "P" palette, "I;16" 16 bits.
        sizes: Least, median and largest width and height.
        skips: Reasons, each with its number, of what is left out.
    """

    folder: Path
    num_images: int
    refused: np.ndarray
    modes: dict[str, int]
    sizes: dict[str, list[int]]
    skips: dict[str, int]

    def rows(self) -> list[tuple[str, str]]:
        """List what was found, for a table."""
        spread = (" x ".join(map(str, size)) for size in zip(*self.sizes.values(), strict=True))
        least, median, largest = spread
        return [
            ("images", f"{self.num_images:,}"),
            ("left out", f"{len(self.refused):,}"),
            ("width x height", f"{median} (from {least} to {largest})"),
            ("modes", ", ".join(f"{mode} {count:,}" for mode, count in self.modes.items())),
            *((f"left out: {reason}", f"{count:,}") for reason, count in self.skips.items()),
        ]


def inspect_images(
    images: ImageSet, cache_dir: Path, *, num_workers: int = 0, montage: int = _SHOWN
) -> Inspection:
    """Decode every image, or recall what was found when the set was the same.

    Args:
        images: Opened.
        cache_dir: Gets `<name>/images_<hash of what the set is>/`.
        num_workers: Processes that decode.
        montage: Images in the picture; 0 for none.

    Raises:
        PermissionError: If the cache cannot be written.
        ValueError: If not one image can be used.
    """
    text = json.dumps(images.describe(), sort_keys=True)
    stamp = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = Path(cache_dir) / images.name / f"images_{stamp}"
    if (folder / _SUMMARY).is_file():
        return _recall(folder)
    require_writable(folder)
    found = _look(images, num_workers)
    skips = [*images.skips, *(Skip(fact["id"], fact["reason"]) for fact in found if fact["reason"])]
    _write_quarantine(folder / _QUARANTINE, skips)
    refused = np.array([i for i, fact in enumerate(found) if fact["reason"]], dtype=np.int64)
    if len(refused) == len(found):
        raise ValueError(
            f"{images.name}: none of {len(found)} images can be used; {folder / _QUARANTINE} says "
            f"why, the first: {found[0]['reason']}"
        )
    if montage:
        sound = np.setdiff1d(np.arange(len(found)), refused)
        write_image_montage(images, sound, folder / _PICTURE, num_images=montage)
    buffer = io.BytesIO()
    np.save(buffer, refused, allow_pickle=False)
    write_atomically(folder / _REFUSED, buffer.getvalue())
    summary = _summary(found, skips)
    write_atomically(folder / _SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
    return _recall(folder)


def write_image_montage(
    images: ImageSet, indices: np.ndarray, path: Path, *, num_images: int = _SHOWN
) -> None:
    """Draw images spread over a set, with their mode, size and id.

    Args:
        images: Opened.
        indices: Which images may be shown.
        path: PNG.
        num_images: How many, evenly spread; fewer if there are fewer.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = np.linspace(0, len(indices) - 1, min(num_images, len(indices))).round().astype(int)
    columns = min(6, len(places))
    rows = -(-len(places) // columns)
    figure = Figure(figsize=(2 * columns, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, place in zip(axes, places, strict=False):
        item = images[int(indices[place])]
        image = decode(item)
        # grey images of any depth from their own darkest to their brightest pixel
        grey = image.mode in ("L", "F") or image.mode.startswith("I")
        ax.imshow(np.asarray(image if grey else image.convert("RGB")), cmap="gray")
        label = item.image_id if len(item.image_id) < 28 else f"...{item.image_id[-25:]}"
        ax.set_title(f"{label}\n{image.mode} {image.width} x {image.height}", fontsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


class _Decoded(Dataset[list[dict[str, Any]]]):
    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __getitem__(self, chunk: int) -> list[dict[str, Any]]:
        start = chunk * _CHUNK
        return [self._facts(i) for i in range(start, min(start + _CHUNK, len(self.images)))]

    def __len__(self) -> int:
        return -(-len(self.images) // _CHUNK)

    def _facts(self, index: int) -> dict[str, Any]:
        try:
            item = self.images[index]
        except (OSError, UnicodeDecodeError) as error:
            return {"id": f"{self.images.name} {index}", "reason": f"cannot be read: {error}"}
        try:
            image = decode(item)
        except ReadError as error:
            return {"id": item.image_id, "reason": str(error).removeprefix(f"{item.image_id}: ")}
        return {"id": item.image_id, "reason": "", "mode": image.mode, "size": image.size}


def _look(images: ImageSet, num_workers: int) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    loader = DataLoader(
        cast(Any, _Decoded(images)), batch_size=None, num_workers=num_workers, shuffle=False
    )
    chunks = track(
        loader,
        description=f"looking at the images of {images.name}",
        total=len(loader),
        console=Console(stderr=True),
    )
    return [fact for chunk in chunks for fact in chunk]


def _summary(found: Sequence[dict[str, Any]], skips: Sequence[Skip]) -> dict[str, Any]:
    sound = [fact for fact in found if not fact["reason"]]
    sizes = np.array([fact["size"] for fact in sound])
    spread = np.percentile(sizes, (0, 50, 100), axis=0).astype(int)
    return {
        "num_images": len(found),
        "modes": dict(Counter(fact["mode"] for fact in sound).most_common()),
        "sizes": {"width": spread[:, 0].tolist(), "height": spread[:, 1].tolist()},
        "skips": dict(Counter(skip.reason for skip in skips).most_common()),
    }


def _recall(folder: Path) -> Inspection:
    summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    refused = np.load(folder / _REFUSED, allow_pickle=False)
    return Inspection(folder=folder, refused=refused, **summary)


def _write_quarantine(path: Path, skips: Sequence[Skip]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "reason"])
    writer.writerows([skip.id, skip.reason] for skip in skips)
    write_atomically(path, text.getvalue().encode())
