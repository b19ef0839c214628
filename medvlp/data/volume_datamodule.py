"""The DataModule of all 3D data sets: prepared studies in, packed batches out."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from medvlp.data.collate import Collate, Tokenizer
from medvlp.data.engine import Engine, LocalEngine
from medvlp.data.manifest import Manifest, dataset_folder, is_prepared
from medvlp.data.preparation import prepare_dataset, quarantine_file
from medvlp.data.progress import ScanProgress
from medvlp.data.recipe import Recipe, require_same_recipe
from medvlp.data.records import StudySource
from medvlp.data.sampling import EachScan, GlobalBatchSampler, RandomScan, ScanChoice
from medvlp.data.splits import Splits
from medvlp.data.tables import nearest
from medvlp.data.texts import ReportText, TextSampler
from medvlp.data.volume_dataset import Augmentation, VolumeDataset
from medvlp.types import Tokens, VolumeBatch

_LOG = logging.getLogger(__name__)
_ON_HOST = {"num_scans"}  # it is the host that cuts sequences


class ScanPolicy:
    """How the scans of a study become samples.

    Args:
        train: While training; None is one random scan per study.
        evaluation: Else; None makes every scan a sample of its own.
        augment: Callables on the network input (1 d h w) and a generator; training only.
    """

    def __init__(
        self,
        train: ScanChoice | None = None,
        evaluation: ScanChoice | None = None,
        *,
        augment: Sequence[Augmentation] = (),
    ) -> None:
        self.train = train or RandomScan()
        self.evaluation = evaluation or EachScan()
        self.augment = tuple(augment)


class VolumeDataModule(LightningDataModule):
    """Batches of one prepared data set; prepares it first if that was not done.

    The global batches of an epoch, and every choice inside a sample, follow from seed, epoch and
    sample alone: they are the same for any number of ranks and workers.

    Args:
        source: The data set.
        recipe: Preprocessing contract of the network.
        cache_dir: Of prepared volumes, see `medvlp.prepare`.
        tokenizer: From strings to `Tokens`; None leaves texts out.
        texts: What of a report a training step sees; the whole report by default.
        scans: How scans become samples.
        splits: What is held out.
        batch_size: Of the global batch, over all ranks.
        num_workers: Loader processes per rank.
        in_memory: Keep the decompressed volumes of a split and read them without workers; for
            small volumes.
        seed: Of order, texts and scans.
        dense: Where the recipe windows and normalises: in the "worker", or, to the same numbers
            within rounding, on the "device" after the transfer, which moves smaller numbers.
        engine: Where preparation runs; by default on the cores of this machine.
    """

    def __init__(
        self,
        source: StudySource,
        recipe: Recipe,
        *,
        cache_dir: str,
        tokenizer: Tokenizer | None = None,
        texts: TextSampler | None = None,
        scans: ScanPolicy | None = None,
        splits: Splits | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        in_memory: bool = False,
        seed: int = 0,
        dense: Literal["worker", "device"] = "worker",
        engine: Engine | None = None,
    ) -> None:
        super().__init__()
        scans = scans or ScanPolicy()
        if dense == "device" and (scans.augment or not recipe.can_defer):
            raise ValueError(
                f"dense is 'device', but {type(recipe).__name__} or the augmentations need "
                "the finished image in the worker; set data.dense=worker"
            )
        self.source, self.recipe, self.cache_dir = source, recipe, Path(cache_dir)
        self.tokenizer, self.texts = tokenizer, texts or ReportText()
        self.scans, self.splits, self.dense = scans, splits or Splits(), dense
        self.batch_size, self.seed, self.in_memory = batch_size, seed, in_memory
        self.num_workers = 0 if in_memory else num_workers
        self.engine = engine or LocalEngine()
        self.datasets: dict[str, VolumeDataset] = {}
        self._num_texts = self._num_truncated = 0

    @property
    def folder(self) -> Path:
        """Where the prepared data set lies."""
        return dataset_folder(self.cache_dir, self.source.name, self.recipe.hash)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Order of the labels in a batch."""
        return self.source.label_names

    def prepare_data(self) -> None:
        """Prepare the data set unless its manifest is there; Lightning calls this on one rank."""
        if is_prepared(self.folder):
            if Manifest(self.folder).source == self.source.describe():
                return
            _LOG.warning("%s was prepared from another %s", self.folder, self.source.name)
        _LOG.info("preparing %s into %s", self.source.name, self.folder)
        with ScanProgress(f"preparing {self.source.name}") as progress:
            manifest = prepare_dataset(
                self.source,
                self.recipe,
                cache_dir=self.cache_dir,
                engine=self.engine,
                on_scan=progress,
            )
        if manifest.skips:
            _LOG.warning(
                "left out or changed in %s: %d, named in %s; most often: %s",
                self.source.name,
                sum(manifest.skips.values()),
                quarantine_file(self.folder),
                next(iter(manifest.skips)),
            )

    def setup(self, stage: str | None = None) -> None:
        """Load the manifest, check the contract, build the splits of the stage.

        Raises:
            FileNotFoundError: If the data set is not prepared.
            ValueError: If the manifest was made with another recipe or lacks a label.
        """
        manifest = Manifest(self.folder)
        require_same_recipe(
            self.recipe.describe(),
            manifest.recipe,
            ours_from="config",
            theirs_from=f"{self.folder.name}/dataset.json",
        )
        for name in self.label_names:
            if name not in manifest.label_names:
                advice = nearest(name, manifest.label_names)
                raise ValueError(f"{self.folder} has no label {name!r}{advice}; prepare it again")
        rows = self.splits.assign(manifest)
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        wanted["predict"] = ("predict",)
        for split in wanted.get(stage or "", ("train", "val", "test", "predict")):
            if split not in self.datasets:
                self.datasets[split] = self._dataset(manifest, split, rows[split])

    def train_dataloader(self) -> DataLoader[VolumeBatch]:
        """Shuffle, drop the incomplete last batch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[VolumeBatch]:
        """Go through the held-out patients in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[VolumeBatch]:
        """Go through the test split in order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[VolumeBatch]:
        """Go through `splits.predict` in order."""
        return self._loader("predict")

    def transfer_batch_to_device(
        self, batch: VolumeBatch, device: torch.device, dataloader_idx: int
    ) -> VolumeBatch:
        """Move what the device computes with, and finish images there; `num_scans` stays."""
        self._count_cut_texts(batch)
        moved = {
            name: value if name in _ON_HOST else _move(value, device)
            for name, value in batch.items()
        }
        if self.dense == "device":
            moved["image"] = self.recipe.finish(cast(Tensor, moved["image"]))
        return cast(VolumeBatch, moved)

    def teardown(self, stage: str) -> None:
        """Say how many texts were cut, over all loader workers."""
        if self._num_truncated:
            rank, world_size = self._rank()
            _LOG.warning(
                "%s%s: %d of %d texts were longer than the tokenizer's context and were cut; "
                "raise tokenizer.context_length to keep more",
                stage.lower(),  # Lightning's enumeration is a string of capricious format
                f", rank {rank}" if world_size > 1 else "",
                self._num_truncated,
                self._num_texts,
            )
        self._num_texts = self._num_truncated = 0

    def _count_cut_texts(self, batch: VolumeBatch) -> None:
        cut, num_texts = batch.get("num_truncated", 0), len(batch.get("text_kind", ()))
        if cut and not self._num_truncated:
            _LOG.info(
                "%d of %d texts of a batch are longer than the tokenizer's context and are cut; "
                "the end of the run tells how many in all",
                cut,
                num_texts,
            )
        self._num_texts += num_texts
        self._num_truncated += cut

    def _dataset(self, manifest: Manifest, split: str, rows: np.ndarray) -> VolumeDataset:
        training = split == "train"
        silent = [int(row) for row in rows if not manifest[int(row)]["texts"]]
        texts = self.texts if self.tokenizer is not None else None
        if silent and texts is not None and training:
            _LOG.warning(
                "%d of %d training studies have no text and are left out: %s%s",
                len(silent),
                len(rows),
                ", ".join(manifest[row]["study_id"] for row in silent[:5]),
                ", ..." if len(silent) > 5 else "",
            )
            rows = np.setdiff1d(rows, silent)
        elif silent:
            # Losses want a text per study: a split has texts for all of its studies or for none.
            texts = None
        dataset = VolumeDataset(
            manifest,
            self.recipe,
            rows=rows,
            scans=self.scans.train if training else self.scans.evaluation,
            texts=texts,
            label_names=self.label_names,
            seed=self.seed,
            augment=self.scans.augment if training else (),
            training=training,
            defer=self.dense == "device",
        )
        if self.in_memory:
            dataset.load_into_memory()
        return dataset

    def _loader(self, split: str) -> DataLoader[VolumeBatch]:
        dataset = self.datasets[split]
        rank, world_size = self._rank()
        sampler = GlobalBatchSampler(
            len(dataset),
            self.batch_size,
            shuffle=split == "train",
            drop_last=split == "train",
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        return DataLoader(
            cast(Any, dataset),  # answers lists of keys: the sampler's items are whole batches
            batch_size=None,
            sampler=sampler,
            collate_fn=Collate(self.tokenizer, self.recipe.hash),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_init_worker,
            generator=torch.Generator().manual_seed(self.seed),  # torch's own stays untouched
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1


def _init_worker(worker: int) -> None:
    import blosc2

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    blosc2.set_nthreads(1)


def _move(value: object, device: torch.device) -> object:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Tokens):
        return Tokens(*(part.to(device, non_blocking=True) for part in value))
    return value
