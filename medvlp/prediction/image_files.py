"""From paths, folders and patterns to images, each a sample of its own."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.readers.dicom_headers import find_files
from medvlp.data.readers.image2d import read_image

_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


class FoundImages(NamedTuple):
    """Files that were asked for.

    Attributes:
        paths: Each once, in the order they were asked for.
        passed_over: Files of folders that are no images by their name or first bytes.
    """

    paths: list[Path]
    passed_over: int


def find_images(sources: Sequence[str | Path]) -> FoundImages:
    """List files, the images of folders, and what patterns match.

    Args:
        sources: Files are taken whatever their name; of folders, and of those below, the files
            that look like images; `*`, `?` and `[...]` match, unless a file is called so.

    Raises:
        FileNotFoundError: If a path is not there, or a pattern matches nothing.
        ValueError: If there is no image at all.
    """
    found: dict[Path, None] = {}
    passed_over = 0
    for source in sources:
        for path in _matches(source):
            if not path.is_dir():
                found[path] = None
                continue
            files = [file for file in find_files(path) if not file.name.startswith(".")]
            images = [file for file in files if _looks_like_image(file)]
            found |= dict.fromkeys(images)
            passed_over += len(files) - len(images)
    if not found:
        asked = ", ".join(map(str, sources)) or "no path"
        raise ValueError(
            f"{asked}: {passed_over} files and no image among them; known: {', '.join(_ENDINGS)}, "
            "and DICOM of any name"
        )
    return FoundImages(list(found), passed_over)


class ReadInput(NamedTuple):
    """One image, ready for the network, or why it is not.

    Attributes:
        pixels: Of the evaluation transform; None if the image cannot be used.
        reason: Empty if it can.
    """

    pixels: UInt8[Tensor, "3 h w"] | None
    reason: str = ""


class ImageInputs(Dataset[ReadInput]):
    """Reads and transforms images one by one; what cannot be read says why and stops nothing.

    Args:
        paths: Of the files.
        recipe: Of the network's input.
    """

    def __init__(self, paths: Sequence[Path], recipe: ImageRecipe) -> None:
        self.paths, self.recipe = list(paths), recipe

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> ReadInput:
        """Read one image."""
        path = self.paths[index]
        try:
            return ReadInput(self.recipe.evaluation_input(read_image(path).image))
        except (OSError, ValueError) as error:
            return ReadInput(None, " ".join(str(error).split()).removeprefix(f"{path}: "))


def _matches(source: str | Path) -> list[Path]:
    text = os.path.expanduser(str(source))
    if Path(text).exists():
        return [Path(text)]
    if not glob.has_magic(text):
        raise FileNotFoundError(f"there is no image at {source}")
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    if not matches:
        raise FileNotFoundError(f"no file matches {source}")
    return matches


def _looks_like_image(path: Path) -> bool:
    if path.name.lower().endswith(_ENDINGS):
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
