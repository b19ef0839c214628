"""The usual way to read WebDataset shards with Pillow and torch, to measure ours against."""

import random
import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from medvlp.data.caption_choice import caption_candidates
from medvlp.data.collate import Tokenizer
from medvlp.data.image_recipe import ImageRecipe

if TYPE_CHECKING:
    from PIL.Image import Image


class PlainShards(IterableDataset[tuple[Tensor, str]]):
    """Stream shards, decode to RGB, crop, resize and normalise in float32, draw a caption.

    Args:
        shards: Split among the workers.
        recipe: Whose boxes, size, mean and standard deviation are used, so that both do the same.
    """

    def __init__(self, shards: Sequence[Path], recipe: ImageRecipe) -> None:
        self.shards, self.recipe = list(shards), recipe
        self.mean = torch.tensor(recipe.mean)[:, None, None]
        self.std = torch.tensor(recipe.std)[:, None, None]

    def __iter__(self) -> Iterator[tuple[Tensor, str]]:
        info = get_worker_info()
        own = self.shards[info.id :: info.num_workers] if info else self.shards
        chance = torch.Generator().manual_seed(0)
        for shard in own:
            for content, text in samples(shard):
                pixels = self.normalise(self.cut(self.decode(content), chance))
                yield pixels, self.caption(text)

    def decode(self, content: bytes) -> "Image":
        """Decode a file to RGB."""
        from PIL import Image

        return Image.open(BytesIO(content)).convert("RGB")

    def cut(self, image: "Image", chance: torch.Generator) -> "Image":
        """Cut a random rectangle and resize it."""
        from PIL.Image import Resampling

        box = self.recipe.random_box(image.size, chance)
        return image.crop(box).resize((self.recipe.size, self.recipe.size), Resampling.BICUBIC)

    def normalise(self, image: "Image") -> Tensor:
        """Make the network's input."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.float().div_(255).sub_(self.mean).div_(self.std)

    def caption(self, text: str) -> str:
        """Draw one of the captions of a text."""
        return random.choice(caption_candidates(text))


def samples(shard: Path) -> Iterator[tuple[bytes, str]]:
    """Stream the pairs of a shard, member by member."""
    with tarfile.open(shard, "r|") as archive:
        content = b""
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            if member.name.endswith(".jpg"):
                content = file.read()
            else:
                yield content, file.read().decode()


def plain_loader(
    shards: Sequence[Path],
    recipe: ImageRecipe,
    *,
    tokenizer: Tokenizer,
    batch_size: int,
    num_workers: int,
) -> DataLoader[Any]:
    """Build the loader; its workers tokenise the captions of a batch together."""

    def collate(pairs: list[tuple[Tensor, str]]) -> dict[str, Any]:
        images, texts = zip(*pairs, strict=True)
        return {"image": default_collate(list(images)), "tokens": tokenizer(texts)}

    return DataLoader(
        PlainShards(shards, recipe),
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=one_thread,
    )


def one_thread(worker: int) -> None:
    """Let a worker keep to one thread, as ours do."""
    torch.set_num_threads(1)
