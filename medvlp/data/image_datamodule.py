"""The DataModule of 2D images: files and WebDataset shards in, batches of bytes out."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from lightning import LightningDataModule
from numpy import ndarray

from medvlp.data.batching import SampleFacts
from medvlp.data.caption_choice import marker_of
from medvlp.data.collate import ImageCollate, Tokenizer
from medvlp.data.cut_texts import CutTexts
from medvlp.data.image_dataset import ImageDataset
from medvlp.data.image_inspection import Inspection, inspect_images
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.image_sets import ImageSet
from medvlp.data.mixing import Mixed, Mixture
from medvlp.data.replaced_images import ReplacedImages
from medvlp.data.resumable_loader import ResumableLoader, resumable_loader
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.text_sampler import TextSampler
from medvlp.data.texts import ReportText
from medvlp.data.transfer import move
from medvlp.distributed.world import rank, world_size
from medvlp.types import ImageBatch

_LOG = logging.getLogger(__name__)


class ImageDataModule(LightningDataModule):
    """Batches of one or several sets of 2D images.

    Images travel as bytes and are normalised on the device. The global batches of an epoch, and
    every choice inside a sample, follow from seed, epoch and sample alone: they are the same for
    any number of ranks and workers.

    Args:
        recipe: Preprocessing contract of the network.
        train: Sets of the training images.
        val: Sets of the validation images.
        test: Sets of the test images; `predict` runs over them too.
        cache_dir: Holds what `inspect_images` found.
        tokenizer: From strings to `Tokens`; None leaves texts out.
        texts: What of an image's texts a training step sees; all of it by default.
        mixture: How the training sets are mixed; None shows every image once an epoch.
        batch_size: Of the global batch, over all ranks.
        num_workers: Loader processes per rank.
        seed: Of order, texts and crops.
        inspect: Look at every image once before the first use, so that damaged ones are left out
            and counted. True decodes them; "header" is some twenty times as fast and does not see
            damage in the middle of a file. What is damaged all the same is replaced by the next
            image of its set in training, told and counted, and ends an evaluation.
    """

    def __init__(
        self,
        recipe: ImageRecipe,
        *,
        train: Sequence[ImageSet] = (),
        val: Sequence[ImageSet] = (),
        test: Sequence[ImageSet] = (),
        cache_dir: str,
        tokenizer: Tokenizer | None = None,
        texts: TextSampler | None = None,
        mixture: Mixture | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        inspect: bool | Literal["header"] = True,
    ) -> None:
        super().__init__()
        self.recipe, self.cache_dir = recipe, Path(cache_dir)
        self.sets = {"train": tuple(train), "val": tuple(val), "test": tuple(test)}
        if not any(self.sets.values()):
            raise ValueError("there is no set of images; name some under data.train, val or test")
        self.tokenizer, self.texts = tokenizer, texts or ReportText("{caption}")
        self.mixture = mixture or Mixture()
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.inspect: bool | Literal["header"] = inspect
        self.datasets: dict[str, ImageDataset] = {}
        self._cut_texts, self._replaced = CutTexts(), ReplacedImages()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels of all sets, in the order in which they first occur."""
        names = [name for sets in self.sets.values() for one in sets for name in one.label_names]
        return tuple(dict.fromkeys(names))

    def prepare_data(self) -> None:
        """Index shards and look at every image; Lightning calls this on one rank."""
        for sets in self.sets.values():
            for images in sets:
                images.open()
                if self.inspect:
                    found = self._inspected(images)
                    _report(images.name, sum(found.skips.values()), found.folder)
                else:
                    _report(images.name, len(images.skips), None)

    def setup(self, stage: str | None = None) -> None:
        """Open the sets of the stage and set damaged images apart."""
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        wanted["predict"] = ("test",)
        for split in wanted.get(stage or "", ("train", "val", "test")):
            if self.sets[split] and split not in self.datasets:
                self.datasets[split] = self._dataset(split)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffle or mix, drop the incomplete last batch."""
        return self._loader("train")

    def val_dataloader(self) -> ResumableLoader | list[ResumableLoader]:
        """Go through the validation images in order."""
        return self._loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> ResumableLoader:
        """Go through the test images in order."""
        return self._loader("test")

    def predict_dataloader(self) -> ResumableLoader:
        """Go through the test images in order."""
        return self._loader("test")

    def transfer_batch_to_device(
        self, batch: ImageBatch, device: torch.device, dataloader_idx: int
    ) -> ImageBatch:
        """Move what the device computes with, and normalise the images there."""
        self._cut_texts.count(batch)
        self._replaced.count(batch)
        moved = move(batch, device)
        moved["image"] = self.recipe.finish(moved["image"])
        return moved

    def teardown(self, stage: str) -> None:
        """Say how many texts were cut and images replaced, over all loader workers."""
        run = stage.lower()  # Lightning's enumeration is a string of capricious format
        run = f"{run}, rank {rank()}" if world_size() > 1 else run
        self._cut_texts.report(run)
        self._replaced.report(run)

    def _inspected(self, images: ImageSet) -> Inspection:
        return inspect_images(
            images,
            self.cache_dir,
            num_workers=self.num_workers,
            header_only=self.inspect == "header",
        )

    def _dataset(self, split: str) -> ImageDataset:
        training = split == "train"
        usable: list[ndarray] = []
        for images in self.sets[split]:
            images.open()
            sound = np.ones(len(images), dtype=bool)
            found = self._inspected(images) if self.inspect else None
            if found is not None:
                sound[found.refused] = False
            if training and self.tokenizer is not None:
                silent = _without_text(images) if found is None else found.without_caption
                _report_silent(images.name, len(silent), int(sound.sum()))
                sound[silent] = False
                if isinstance(self.texts, ReportText):
                    _warn_of_markers(images, sound)
            usable.append(np.flatnonzero(sound))
        return ImageDataset(
            self.sets[split],
            self.recipe,
            rows=usable,
            texts=self.texts if self.tokenizer is not None else None,
            label_names=self.label_names,
            seed=self.seed,
            training=training,
        )

    def _loader(self, split: str) -> ResumableLoader:
        if split not in self.datasets:
            raise ValueError(f"there is no {split} set of images; name some under data.{split}")
        dataset = self.datasets[split]
        training = split == "train"
        sampler = GlobalBatchSampler(
            replace(SampleFacts.uniform(len(dataset)), digest=dataset.digest()),
            self.batch_size,
            shuffle=training,
            drop_last=training,
            seed=self.seed,
            rank=rank(),
            world_size=world_size(),
            batching=Mixed(self.mixture, dataset.components()) if training else None,
        )
        collate = ImageCollate(self.tokenizer, self.recipe.hash)
        return resumable_loader(dataset, sampler, collate=collate, num_workers=self.num_workers)


def _without_text(images: ImageSet) -> Int[ndarray, " s"]:
    return np.array([i for i in range(len(images)) if not images.text_length(i)], dtype=np.int64)


def _report_silent(name: str, num_silent: int, total: int) -> None:
    if num_silent:
        _LOG.warning(
            "%s: %d of %d training images have no caption and are left out",
            name,
            num_silent,
            total,
        )


def _warn_of_markers(images: ImageSet, usable: Bool[ndarray, " s"]) -> None:
    """Look at the texts of the first image; a set joins its captions in one way."""
    texts = images[int(usable.argmax())].texts.values() if usable.any() else ()
    marker = next(filter(None, map(marker_of, texts)), "")
    if marker:
        _LOG.warning(
            "%s joins several captions of an image by %r, and all are shown as one text; "
            "+data/texts@data.texts=multi_caption shows one of them",
            images.name,
            marker,
        )


def _report(name: str, num_skips: int, folder: Path | None) -> None:
    if num_skips:
        where = f", named in {folder / 'quarantine.csv'}" if folder is not None else ""
        _LOG.warning("left out of %s: %d%s", name, num_skips, where)
