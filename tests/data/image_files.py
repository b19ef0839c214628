"""Small sets of 2D images: files with a table, and web shards."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medvlp.data.folder import Folder
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.image_sets import FileImages, ImageSet
from medvlp.data.shard_images import ShardImages
from medvlp.text.tokenizers import WordPieceTokenizer
from tests.data.test_shard_images import write_shard


def write_set(folder: Path, name: str, num_images: int, damaged: int = 0) -> FileImages:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["study_id,path,caption,Normal"]
    for number in range(num_images):
        file = folder / f"{name}_{number}.png"
        Image.fromarray(np.full((12, 9), number, np.uint8)).save(file)
        if number < damaged:
            file.write_bytes(file.read_bytes()[:30])
        lines.append(f"{name}{number},{file.name},no nodule {number},{number % 2}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    source = Folder(
        str(folder / f"{name}.csv"),
        str(folder),
        name=name,
        text_columns={"caption": "caption"},
        label_columns=["Normal"],
        split="train",
        modality="DX",
    )
    return FileImages(source)


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def write_shards(
    folder: Path, name: str, captions: Sequence[str], cut: Sequence[int] = ()
) -> ShardImages:
    """Write shards of three samples each, unless they are there: what was found in them holds."""
    folder.mkdir(exist_ok=True)
    for shard in range(-(-len(captions) // 3)):
        path = folder / f"{name}-{shard:06d}.tar"
        if path.exists():
            continue
        members = []
        for number in range(3 * shard, min(3 * shard + 3, len(captions))):
            content = encoded(Image.fromarray(np.full((12, 9), number, np.uint8)), "JPEG")
            content = content[:-60] if number in cut else content
            members.append((f"{number:06d}.jpg", content))
            members.append((f"{number:06d}.txt", captions[number].encode()))
        write_shard(path, members)
    return ShardImages(f"{folder}/{name}-*.tar", name=name, modality=name.upper())


def shard_id(images: ShardImages, number: int) -> str:
    return images[number].image_id


def module_of(tmp_path: Path, sets: Sequence[ImageSet], **changes: Any) -> ImageDataModule:
    options: dict[str, Any] = {
        "train": sets,
        "test": sets[:1],
        "cache_dir": str(tmp_path / "cache"),
        "tokenizer": WordPieceTokenizer("phantom", 16),
        "batch_size": 4,
    }
    recipe = ImageRecipe(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    module = ImageDataModule(recipe, **(options | changes))
    module.prepare_data()
    module.setup()
    return module
