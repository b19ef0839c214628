"""Which samples make up which batch on which rank: pure functions of (seed, epoch)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from medvlp.data.manifest import Row


class SampleKey(NamedTuple):
    """Names one sample of one epoch; all chance in the sample follows from it and the seed."""

    epoch: int
    sample: int


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """Cuts every global batch into one contiguous slice per rank.

    The global batches are the same for any number of ranks and workers. It is given to a
    DataLoader as `sampler` with `batch_size=None`, so that Lightning calls `set_epoch` and never
    wraps it.

    Args:
        num_samples: In the split.
        batch_size: Of the global batch, over all ranks.
        shuffle: A new permutation for every epoch.
        drop_last: True leaves an incomplete last batch out (training). False fills it by
            repeating samples from the start, so that all ranks have equal batches; `sample_id`
            lets an evaluation drop the repeats.
        seed: With the epoch, decides the permutation.
        rank: Of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size is {batch_size} and counts all {world_size} processes together: it "
                "must be a positive multiple of their number"
            )
        if drop_last and num_samples < batch_size:
            raise ValueError(
                f"{num_samples} samples do not fill one batch of {batch_size}; "
                "lower data.batch_size or prepare more studies"
            )
        self.num_samples, self.batch_size = num_samples, batch_size
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the epoch that comes."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.drop_last:
            return self.num_samples // self.batch_size
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = epoch_order(self.num_samples, self.seed, self.epoch, shuffle=self.shuffle)
        # A last batch that is to be filled gets only as many samples as the ranks need to be equal.
        local = self.batch_size // self.world_size
        for batch in range(len(self)):
            start = batch * self.batch_size
            here = min(self.batch_size, self.num_samples - start)
            if here < self.batch_size:
                local = -(-here // self.world_size)
            first = start + self.rank * local
            indices = order[np.arange(first, first + local) % self.num_samples]
            yield [SampleKey(self.epoch, int(index)) for index in indices]


def epoch_order(num_samples: int, seed: int, epoch: int, *, shuffle: bool) -> np.ndarray:
    """Order the samples of an epoch; the same on every rank."""
    if not shuffle:
        return np.arange(num_samples)
    return np.random.default_rng((seed, epoch, 0)).permutation(num_samples)


def sample_generator(seed: int, key: SampleKey) -> np.random.Generator:
    """Make the source of all chance in one sample: text, scan, augmentation."""
    return np.random.default_rng((seed, key.epoch, 1, key.sample))


class SampleSpec(NamedTuple):
    """What one sample of a study may show.

    Attributes:
        sample_id: Unique within an evaluation set.
        scans: Positions among the scans of the study.
        target: The lesion or question that the sample is about: a row of the manifest.
    """

    sample_id: str
    scans: tuple[int, ...]
    target: Row | None = None


class ScanChoice(ABC):
    """Decides which scans of a study make a sample."""

    @abstractmethod
    def samples(self, study: Row) -> list[SampleSpec]:
        """List the samples of a study, a row of the manifest."""

    @abstractmethod
    def choose(self, scans: Sequence[int], generator: np.random.Generator) -> Sequence[int]:
        """Choose among the scans that a sample may show."""


class RandomScan(ScanChoice):
    """One random scan per study: HLIP's training on CT-RATE, whose scans are reconstructions."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample of the study."""
        return [_whole(study)]

    def choose(self, scans: Sequence[int], generator: np.random.Generator) -> Sequence[int]:
        """Draw one."""
        return [scans[int(generator.integers(len(scans)))]]


class EachScan(ScanChoice):
    """Every scan is a sample of its own: published evaluation on CT-RATE."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample per scan, named by the scan."""
        return [SampleSpec(scan["scan_id"], (i,)) for i, scan in enumerate(study["scans"])]

    def choose(self, scans: Sequence[int], generator: np.random.Generator) -> Sequence[int]:
        """Take the one there is."""
        return list(scans)


class AllScans(ScanChoice):
    """All scans of a study together, for studies of several sequences or series.

    Args:
        max_scans: Of a study with more, this many are drawn; None takes all.
    """

    def __init__(self, max_scans: int | None = None) -> None:
        if max_scans is not None and max_scans < 1:
            raise ValueError(f"max_scans is {max_scans}, expected at least 1")
        self.max_scans = max_scans

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample of the study."""
        return [_whole(study)]

    def choose(self, scans: Sequence[int], generator: np.random.Generator) -> Sequence[int]:
        """Take all in their order, or draw `max_scans` and keep their order."""
        if self.max_scans is None or len(scans) <= self.max_scans:
            return list(scans)
        drawn = generator.choice(len(scans), self.max_scans, replace=False)
        return [scans[int(index)] for index in sorted(drawn)]


class EachLesion(RandomScan):
    """Every lesion is a sample of its own, on one scan of its study; others give none."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample per lesion."""
        return _about(study, "lesions", "lesion_id")


class EachQuestion(RandomScan):
    """Every question is a sample of its own, on one scan of its study; others give none."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample per question."""
        return _about(study, "questions", None)


def _whole(study: Row) -> SampleSpec:
    return SampleSpec(study["study_id"], tuple(range(len(study["scans"]))))


def _about(study: Row, targets: str, id_key: str | None) -> list[SampleSpec]:
    scans = tuple(range(len(study["scans"])))
    return [
        SampleSpec(f"{study['study_id']}/{row[id_key] if id_key else number}", scans, row)
        for number, row in enumerate(study.get(targets, ()))
    ]
