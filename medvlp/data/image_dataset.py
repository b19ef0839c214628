"""Samples of 2D images: decoded in the workers, transformed by the recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.image_sets import ImageItem, ImageSet
from medvlp.data.mixing import Component
from medvlp.data.readers.image2d import read_image
from medvlp.data.sampling import SampleKey, sample_generator
from medvlp.data.statements import statements_of
from medvlp.data.texts import TextSampler, TextUnit

if TYPE_CHECKING:
    from PIL.Image import Image


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

    def __getitem__(self, keys: Sequence[SampleKey]) -> list[ImageSample]:
        """Make the samples of one batch."""
        return [self._sample(key) for key in keys]

    def components(self) -> list[Component]:
        """Describe the sets for their mixture."""
        return [
            Component(images.name, images.modality, images.shard_numbers(rows))
            for images, rows in zip(self.sets, self._rows, strict=True)
        ]

    def item(self, index: int) -> ImageItem:
        """Read one image as it is stored."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        return self.sets[number][int(self._rows[number][index - before])]

    def _sample(self, key: SampleKey) -> ImageSample:
        item = self.item(key.sample)
        # an evaluation sees the same texts in every epoch
        generator = sample_generator(self.seed, key if self.training else key._replace(epoch=0))
        image = decode(item)
        texts: list[TextUnit] = []
        if self.training:
            pixels = self.recipe.training_input(image, generator)
            if self.texts is not None and item.texts:
                texts = self.texts(item.texts, generator)
        else:
            pixels = self.recipe.evaluation_input(image)
            if self.texts is not None and item.texts:
                texts = self.texts.evaluation(item.texts, generator)
        return ImageSample(
            image=pixels,
            sample_id=item.image_id,
            patient_id=item.patient_id,
            labels=[int(item.labels.get(name, -1)) for name in self.label_names],
            texts=texts,
            statements=(self.texts.statements if self.texts else statements_of)(item.texts),
            metadata=dict(item.metadata),
        )


def decode(item: ImageItem) -> "Image":
    """Decode an image in the mode it is stored in.

    Raises:
        ReadError: If the file is damaged, of no known format, or too large.
    """
    return read_image(Path(item.image_id), item.content).image
