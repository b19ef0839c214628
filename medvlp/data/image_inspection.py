"""Look at every 2D image once before training: what is damaged is known, counted and left out.

Millions of images take long: the pass runs in several processes, keeps what it has found piece by
piece, and goes on there after an interruption.
"""

import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from torch.utils.data import DataLoader, Dataset

from medvlp.data.cache import require_writable, write_atomically
from medvlp.data.caption_choice import has_caption
from medvlp.data.exclusive import exclusive
from medvlp.data.image_montage import write_image_montage
from medvlp.data.image_sets import ImageSet
from medvlp.data.progress import RateBar
from medvlp.data.quarantine import quarantine_file, summarise_skips, write_quarantine
from medvlp.data.readers.image2d import Image2D, looks_whole, read_header, read_image
from medvlp.data.readers.registry import ReadError
from medvlp.data.records import Skip

_SUMMARY, _ROWS, _PICTURE, _PIECES = "summary.json", "rows.npz", "quality.png", "pieces"
_CHUNK = 64  # images that a worker looks at before it reports
_PIECE = 512 * _CHUNK  # images whose facts are written together
_SHOWN = 24
_NO_CAPTION = "no caption: not trained on"


@dataclass(frozen=True)
class Inspection:
    """What was found in a set of images.

    Attributes:
        folder: Holds quarantine.csv and quality.png.
        num_images: Looked at.
        refused: Positions of the images that cannot be used, rising.
        without_caption: Positions of sound images whose texts are empty or only a marker.
        modes: Pillow mode to number of images: "L" grey, "RGB", "P" palette, "I;16" 16 bits.
        sizes: Least, median and largest width and height.
        skips: Reasons, each with its number, of what is left out.
        notes: What else to know, each with its number.
    """

    folder: Path
    num_images: int
    refused: Int[ndarray, " r"]
    without_caption: Int[ndarray, " t"]
    modes: dict[str, int]
    sizes: dict[str, list[int]]
    skips: dict[str, int]
    notes: dict[str, int]

    def rows(self) -> list[tuple[str, str]]:
        """List what was found, for a table."""
        spread = (" x ".join(map(str, size)) for size in zip(*self.sizes.values(), strict=True))
        least, median, largest = spread
        return [
            ("images", f"{self.num_images:,}"),
            ("left out", f"{len(self.refused):,}"),
            ("without a caption", f"{len(self.without_caption):,}"),
            ("width x height", f"{median} (from {least} to {largest})"),
            ("modes", ", ".join(f"{mode} {count:,}" for mode, count in self.modes.items())),
            *((note, f"{count:,}") for note, count in self.notes.items()),
            *((f"left out: {reason}", f"{count:,}") for reason, count in self.skips.items()),
        ]


def inspect_images(
    images: ImageSet,
    cache_dir: Path,
    *,
    num_workers: int = 0,
    montage: int = _SHOWN,
    header_only: bool = False,
) -> Inspection:
    """Decode every image, or recall what was found when the set was the same.

    Args:
        images: Opened.
        cache_dir: Gets `<name>/images_<hash of what the set is>/`.
        num_workers: Processes that decode.
        montage: Images in the picture; 0 for none.
        header_only: Of JPEG and PNG look at header and end instead: some twenty times as fast, and
            blind to damage between them.

    Raises:
        PermissionError: If the cache cannot be written.
        ValueError: If not one image can be used.
    """
    text = json.dumps(images.describe(), sort_keys=True)
    folder = Path(cache_dir) / images.name / f"images_{sha256(text.encode()).hexdigest()[:16]}"
    if (folder / _SUMMARY).is_file():
        return _recall(folder)
    if header_only:  # what a whole look has found counts more
        folder = folder.with_name(f"{folder.name}_header")
        if (folder / _SUMMARY).is_file():
            return _recall(folder)
    require_writable(folder)
    with exclusive(folder):  # runs that begin together would throw away each other's pieces
        if not (folder / _SUMMARY).is_file():
            _look(_Looked(images, header_only), num_workers, folder / _PIECES)
            _conclude(images, folder, montage)
            shutil.rmtree(folder / _PIECES)
    return _recall(folder)


@dataclass
class _Facts:
    """What was found in some images that stand in a row."""

    sizes: Int[ndarray, "n 2"]
    modes: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    without_caption: list[tuple[int, str]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        rest = {name: value for name, value in vars(self).items() if name != "sizes"}
        buffer = io.BytesIO()
        np.savez(buffer, sizes=self.sizes, rest=np.frombuffer(json.dumps(rest).encode(), np.uint8))
        write_atomically(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> "_Facts":
        with np.load(path, allow_pickle=False) as stored:
            sizes, rest = stored["sizes"], json.loads(stored["rest"].tobytes())
        return cls(
            sizes,
            modes=Counter(rest["modes"]),
            notes=Counter(rest["notes"]),
            refused=list(map(tuple, rest["refused"])),
            without_caption=list(map(tuple, rest["without_caption"])),
        )


class _Looked(Dataset[_Facts]):
    """Facts of the images, in chunks."""

    def __init__(self, images: ImageSet, header_only: bool) -> None:
        self.images, self.header_only = images, header_only

    def __getitem__(self, start: int) -> _Facts:
        numbers = range(start, min(start + _CHUNK, len(self.images)))
        facts = _Facts(np.zeros((len(numbers), 2), np.int32))
        for place, number in enumerate(numbers):
            self._add(facts, place, number)
        return facts

    def _add(self, facts: _Facts, place: int, number: int) -> None:
        image_id = f"{self.images.name} {number}"
        try:
            item = self.images[number]
            image_id = item.image_id
            image = self._read(Path(image_id), item.content)
        except OSError as error:
            facts.refused.append((number, image_id, f"cannot be read: {error}"))
            return
        except ReadError as error:
            facts.refused.append((number, image_id, str(error).removeprefix(f"{image_id}: ")))
            return
        facts.sizes[place] = image.image.size
        facts.modes[image.mode] += 1
        if image.provenance.get("exif_orientation", 1) != 1:
            facts.notes["turned by viewers (EXIF), read as stored"] += 1
        if "stored_bits" in image.provenance:
            facts.notes["colours of 16 bits, read with 8"] += 1
        if not any(map(has_caption, item.texts.values())):
            facts.without_caption.append((number, image_id))

    def _read(self, path: Path, content: bytes) -> Image2D:
        if self.header_only and looks_whole(content):
            return read_header(path, content)
        return read_image(path, content, quiet=True)


def _look(looked: _Looked, num_workers: int, folder: Path) -> None:
    """Write the pieces that are not there yet."""
    total = len(looked.images)
    missing = [n for n in range(0, total, _PIECE) if not _piece(folder, n).is_file()]
    chunks = [k for n in missing for k in range(n, min(n + _PIECE, total), _CHUNK)]
    loader = DataLoader(
        cast(Any, looked),
        batch_size=None,
        sampler=chunks,
        num_workers=num_workers,
        worker_init_fn=_init_worker,
    )
    with RateBar(f"looking at the images of {looked.images.name}", "images") as bar:
        bar.advance(total, total - sum(min(_PIECE, total - n) for n in missing))
        found: list[_Facts] = []
        for start, facts in zip(chunks, loader, strict=True):
            found.append(facts)
            end = start + len(facts.sizes)
            if end % _PIECE == 0 or end == total:
                _joined(found).write(_piece(folder, (end - 1) // _PIECE * _PIECE))
                found.clear()
            bar.advance(total, len(facts.sizes))


def _joined(parts: Sequence[_Facts]) -> _Facts:
    whole = _Facts(np.concatenate([part.sizes for part in parts]))
    for part in parts:
        whole.modes.update(part.modes)
        whole.notes.update(part.notes)
        whole.refused += part.refused
        whole.without_caption += part.without_caption
    return whole


def _piece(folder: Path, start: int) -> Path:
    return folder / f"{start:012d}.npz"


def _init_worker(worker: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer


def _conclude(images: ImageSet, folder: Path, montage: int) -> None:
    """Join the pieces; the summary comes last, and says that all is there."""
    pieces = sorted((folder / _PIECES).glob("*.npz"))
    modes, notes = Counter[str](), Counter[str]()
    sizes, refused, silent = list[ndarray](), list[ndarray](), list[ndarray]()
    for facts in map(_Facts.read, pieces):
        modes.update(facts.modes)
        notes.update(facts.notes)
        sizes.append(facts.sizes)
        refused.append(np.array([number for number, *_ in facts.refused], np.int64))
        silent.append(np.array([number for number, _ in facts.without_caption], np.int64))
    rows = {"refused": np.concatenate(refused), "without_caption": np.concatenate(silent)}
    num_images, num_refused = len(images), len(rows["refused"])
    # a set without any caption is not one for captions
    named = len(rows["without_caption"]) < num_images - num_refused
    write_quarantine(quarantine_file(folder), _skips(images, pieces, with_silent=named))
    if num_refused == num_images:
        raise ValueError(
            f"{images.name}: none of {num_images} images can be used; "
            f"{quarantine_file(folder)} says why, the first: {_Facts.read(pieces[0]).refused[0][2]}"
        )
    if montage:
        sound = np.setdiff1d(np.arange(num_images), rows["refused"])
        write_image_montage(images, sound, folder / _PICTURE, num_images=montage)
    buffer = io.BytesIO()
    np.savez(buffer, refused=rows["refused"], without_caption=rows["without_caption"])
    write_atomically(folder / _ROWS, buffer.getvalue())
    spread = np.concatenate(sizes)
    spread = np.percentile(spread[spread[:, 0] > 0], (0, 50, 100), axis=0).astype(int)
    summary = {
        "num_images": num_images,
        "modes": dict(modes.most_common()),
        "sizes": {"width": spread[:, 0].tolist(), "height": spread[:, 1].tolist()},
        "skips": summarise_skips(_skips(images, pieces, with_silent=False)),
        "notes": dict(notes.most_common()),
    }
    write_atomically(folder / _SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())


def _skips(images: ImageSet, pieces: Sequence[Path], *, with_silent: bool) -> Iterator[Skip]:
    yield from images.skips
    for facts in map(_Facts.read, pieces):
        yield from (Skip(image_id, reason) for _, image_id, reason in facts.refused)
        if with_silent:
            yield from (Skip(image_id, _NO_CAPTION) for _, image_id in facts.without_caption)


def _recall(folder: Path) -> Inspection:
    summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    with np.load(folder / _ROWS, allow_pickle=False) as rows:
        return Inspection(folder, **rows, **summary)
