"""The DataModule of all 3D data sets: prepared studies in, packed batches out."""

import logging
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning import LightningDataModule

from medvlp.data.batching import Batching, FixedSize
from medvlp.data.collate import Collate, Tokenizer
from medvlp.data.cut_texts import CutTexts
from medvlp.data.engine import Engine, LocalEngine
from medvlp.data.manifest import Manifest, dataset_folder, is_prepared
from medvlp.data.preparation import prepare_dataset
from medvlp.data.progress import ScanProgress
from medvlp.data.quality import montage_file, write_montage
from medvlp.data.quarantine import quarantine_file
from medvlp.data.recipe import Recipe, require_same_recipe
from medvlp.data.records import StudySource
from medvlp.data.resumable_loader import ResumableLoader, resumable_loader
from medvlp.data.sampling import GlobalBatchSampler
from medvlp.data.scan_policy import ScanPolicy
from medvlp.data.splits import Splits
from medvlp.data.tables import nearest
from medvlp.data.text_sampler import TextSampler
from medvlp.data.texts import ReportText
from medvlp.data.transfer import move
from medvlp.data.volume_dataset import VolumeDataset
from medvlp.types import VolumeBatch

_LOG = logging.getLogger(__name__)
_MONTAGE_SCANS = 4


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
        batch_size: Studies of the global batch, over all ranks; the most where they differ.
        batching: How samples are grouped; None takes `batch_size` of them for each batch.
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
        batching: Batching | None = None,
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
        self.batch_size, self.batching = batch_size, batching or FixedSize()
        self.seed, self.in_memory = seed, in_memory
        self.num_workers = 0 if in_memory else num_workers
        self.engine = engine or LocalEngine()
        self.datasets: dict[str, VolumeDataset] = {}
        self._cut_texts = CutTexts()

    @property
    def folder(self) -> Path:
        """Where the prepared data set lies."""
        return dataset_folder(self.cache_dir, self.source.name, self.recipe.stored_hash)

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
        write_montage(manifest, montage_file(self.folder), num_scans=_MONTAGE_SCANS)
        _LOG.info("a picture of it to look at: %s", montage_file(self.folder))
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
            self.recipe.describe_stored(),
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

    def train_dataloader(self) -> ResumableLoader:
        """Shuffle, drop the incomplete last batch."""
        return self._loader("train")

    def val_dataloader(self) -> ResumableLoader:
        """Go through the held-out patients in order."""
        return self._loader("val")

    def test_dataloader(self) -> ResumableLoader:
        """Go through the test split in order."""
        return self._loader("test")

    def predict_dataloader(self) -> ResumableLoader:
        """Go through `splits.predict` in order."""
        return self._loader("predict")

    def transfer_batch_to_device(
        self, batch: VolumeBatch, device: torch.device, dataloader_idx: int
    ) -> VolumeBatch:
        """Move what the device computes with, and finish images there; `num_scans` stays."""
        self._cut_texts.count(batch)
        moved = move(batch, device)
        if self.dense == "device":
            moved["image"] = self.recipe.finish(moved["image"])
        return moved

    def teardown(self, stage: str) -> None:
        """Say how many texts were cut, over all loader workers."""
        rank, world_size = self._rank()
        run = stage.lower()  # Lightning's enumeration is a string of capricious format
        self._cut_texts.report(f"{run}, rank {rank}" if world_size > 1 else run)

    def _dataset(self, manifest: Manifest, split: str, rows: np.ndarray) -> VolumeDataset:
        training = split == "train"
        texts = self.texts if self.tokenizer is not None else None
        silent = [int(row) for row in rows if not self.texts.has_texts(manifest[int(row)])]
        if silent and texts is not None and training:
            _LOG.warning(
                "%d of %d training studies have no text and are left out: %s%s",
                len(silent),
                len(rows),
                ", ".join(manifest[row]["study_id"] for row in silent[:5]),
                ", ..." if len(silent) > 5 else "",
            )
            rows = np.setdiff1d(rows, silent)
        if texts is not None and training:
            self._warn_of_reports(manifest, rows, texts)
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

    def _warn_of_reports(self, manifest: Manifest, rows: np.ndarray, texts: TextSampler) -> None:
        remarks: Counter[str] = Counter()
        for row in rows:
            sections = manifest[int(row)]["texts"]
            remarks.update(texts.remarks(sections))
            remarks.update(
                f"have no section {name!r}: {type(texts).__name__} goes on without it"
                for name in texts.lacks(sections)
            )
        for remark, count in remarks.items():
            _LOG.warning("%d of %d training studies %s", count, len(rows), remark)

    def _loader(self, split: str) -> ResumableLoader:
        dataset = self.datasets[split]
        rank, world_size = self._rank()
        training = split == "train"
        sampler = GlobalBatchSampler(
            dataset.facts,
            self.batch_size,
            shuffle=training,
            drop_last=training,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            batching=self.batching,
        )
        collate = Collate(self.tokenizer, self.recipe.hash)
        return resumable_loader(dataset, sampler, collate=collate, num_workers=self.num_workers)

    def _rank(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
