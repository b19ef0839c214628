"""Samples of 2D images: decoded in the workers, transformed by the recipe, put into the batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data.batch_memory import empty_batch
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.image_sets import ImageItem, ImageSet
from medvlp.data.mixing import Component
from medvlp.data.readers.image2d import read_image
from medvlp.data.readers.registry import ReadError
from medvlp.data.records import Skip
from medvlp.data.sampling import SampleKey, sample_generator
from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import TextSampler, TextUnit

if TYPE_CHECKING:
    from PIL.Image import Image

_IN_A_ROW = 20  # damaged images of one set, before training stops


@dataclass(frozen=True)
class ImageSample:
    """One image before batching; the fields are those of `ImageBatch`."""

    image: UInt8[Tensor, "3 h w"]
    sample_id: str
    patient_id: str
    labels: list[int]
    texts: list[TextUnit]
    statements: tuple[int, ...]
    metadata: dict[str, str]


class ImageSamples(list[ImageSample]):
    """The samples of a batch, whose images are rows of one tensor.

    Args:
        samples: In their order.
        images: All images.
        replaced: What another image took the place of, and why.
    """

    def __init__(
        self,
        samples: Iterable[ImageSample],
        images: UInt8[Tensor, "b 3 h w"],
        replaced: Sequence[Skip],
    ) -> None:
        super().__init__(samples)
        self.images, self.replaced = images, list(replaced)


class ImageDataset(Dataset[list[ImageSample]]):
    """The images of several sets in a row, asked for in lists: a list of keys is one batch.

    Args:
        sets: Opened.
        recipe: Of the network's input.
        rows: Which images of each set.
        texts: None leaves texts out.
        label_names: Order of the labels.
        seed: Of all chance in the samples.
        training: Random crops; False is the evaluation transform.
    """

    def __init__(
        self,
        sets: Sequence[ImageSet],
        recipe: ImageRecipe,
        *,
        rows: Sequence[np.ndarray],
        texts: TextSampler | None,
        label_names: Sequence[str],
        seed: int,
        training: bool,
    ) -> None:
        self.sets, self.recipe, self.texts = tuple(sets), recipe, texts
        self.label_names, self.seed, self.training = tuple(label_names), seed, training
        self._rows = tuple(rows)
        self._ends = np.cumsum([len(chosen) for chosen in rows])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, keys: Sequence[SampleKey]) -> ImageSamples:
        """Make the samples of one batch.

        Raises:
            ReadError: If an image is damaged, in an evaluation; training takes the next of its
                set, unless many in a row are damaged.
        """
        images = empty_batch((len(keys), 3, self.recipe.size, self.recipe.size), torch.uint8)
        replaced: list[Skip] = []
        samples = [self._sample(key, images[row], replaced) for row, key in enumerate(keys)]
        return ImageSamples(samples, images, replaced)

    def digest(self) -> str:
        """Tell these images from others, and from the same ones with others left out."""
        known = sha256()
        for images, rows in zip(self.sets, self._rows, strict=True):
            known.update(repr((images.name, len(images))).encode())
            known.update(rows.tobytes())
        return known.hexdigest()[:16]

    def components(self) -> list[Component]:
        """Describe the sets for their mixture."""
        return [
            Component(images.name, images.modality, images.shard_numbers(rows))
            for images, rows in zip(self.sets, self._rows, strict=True)
        ]

    def item(self, index: int) -> ImageItem:
        """Read one image as it is stored."""
        number, start = self._set_of(index)
        return self.sets[number][int(self._rows[number][index - start])]

    def _set_of(self, index: int) -> tuple[int, int]:
        """Return the number of an image's set, and where the set starts."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, int(self._ends[number - 1]) if number else 0

    def _sample(
        self, key: SampleKey, out: UInt8[Tensor, "3 h w"], replaced: list[Skip]
    ) -> ImageSample:
        """Make a sample; what takes a damaged image's place follows from the data alone."""
        index = key.sample
        for _ in range(_IN_A_ROW):
            try:
                return self._made(index, key, out)
            except ReadError as error:
                if not self.training:
                    raise
                number, start = self._set_of(index)
                row = int(self._rows[number][index - start])
                name = f"{self.sets[number].name}, image {row}"
                replaced.append(Skip(name, str(error)))
                index = start + (index - start + 1) % len(self._rows[number])
        raise ReadError(
            f"{_IN_A_ROW} images in a row cannot be used, the last: {replaced[-1].reason}. Look "
            "into the files, or let data.inspect=true leave damaged ones out before training"
        )

    def _made(self, index: int, key: SampleKey, out: UInt8[Tensor, "3 h w"]) -> ImageSample:
        item = self.item(index)
        # an evaluation sees the same texts in every epoch
        generator = sample_generator(self.seed, key if self.training else key._replace(epoch=0))
        if self.training:
            image = decode(item, self.recipe.draft_side)
            pixels = self.recipe.training_input(image, generator)
        else:
            pixels = self.recipe.evaluation_input(decode(item))
        np.copyto(out.numpy(), pixels.numpy())
        return ImageSample(
            image=out,
            sample_id=item.image_id,
            patient_id=item.patient_id,
            labels=[int(item.labels.get(name, -1)) for name in self.label_names],
            texts=self._texts(item, generator),
            statements=(self.texts.statements if self.texts else statements_of)(item.texts),
            metadata=dict(item.metadata),
        )

    def _texts(self, item: ImageItem, generator: np.random.Generator) -> list[TextUnit]:
        if self.texts is None:
            return []
        if not self.training:
            return self.texts.evaluation(item.texts, generator) if item.texts else []
        texts = self.texts(item.texts, generator) if item.texts else []
        if not texts:
            raise ReadError(f"{item.image_id}: it has no caption")
        return texts


def decode(item: ImageItem, shorter_side: int | None = None) -> "Image":
    """Decode an image in the mode it is stored in.

    Args:
        item: As stored.
        shorter_side: See `read_image`.

    Raises:
        ReadError: If the file is damaged, of no known format, or too large.
    """
    path = Path(item.image_id)
    return read_image(path, item.content, quiet=True, shorter_side=shorter_side).image
