"""Which samples make up which batch on which rank: pure functions of (seed, epoch)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import count, repeat
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from medvlp.data.batching import Batching, FixedSize, SampleFacts
from medvlp.data.manifest import Row


class SampleKey(NamedTuple):
    """Names one sample of one epoch; all chance in the sample follows from it and the seed.

    Attributes:
        epoch: From 0.
        sample: Its number.
        batch: Number of its batch where an epoch may show a sample more than once, else 0.
    """

    epoch: int
    sample: int
    batch: int = 0


class GlobalBatchSampler(Sampler[list[SampleKey]]):
    """Cuts every global batch into one contiguous slice per rank.

    The global batches are the same for any number of ranks and workers. It is given to a
    DataLoader as `sampler` with `batch_size=None`, so that Lightning calls `set_epoch` and never
    wraps it.

    Args:
        samples: What is known of them, or merely their number.
        batch_size: Of the global batch, over all ranks; the most where batches differ in size.
        shuffle: A new permutation for every epoch.
        drop_last: True leaves incomplete batches out (training). False gives the ranks equal
            numbers of their samples by repeating some within the batch; `sample_id` lets an
            evaluation drop the repeats.
        seed: With the epoch, decides the permutation.
        rank: Of this process.
        world_size: Number of processes.
        batching: How samples are grouped; None takes `batch_size` of them for each batch.

    Attributes:
        epoch: Whose batches come next.
        first_batch: How many batches of the epoch the next pass leaves out.
    """

    def __init__(
        self,
        samples: SampleFacts | int,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batching: Batching | None = None,
    ) -> None:
        self.facts = SampleFacts.uniform(samples) if isinstance(samples, int) else samples
        self.batching = batching or FixedSize()
        self.batching.check(self.facts, batch_size, world_size=world_size)
        if drop_last and not self.batching.num_full_batches(self.facts, batch_size):
            raise ValueError(
                f"{len(self.facts)} samples do not fill one batch of {batch_size}; "
                "lower data.batch_size or prepare more studies"
            )
        self.batch_size, self.seed = batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first_batch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the epoch that comes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the batches of a whole epoch."""
        if self.drop_last:
            return self.batching.num_full_batches(self.facts, self.batch_size)
        return len(self.global_batches())

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first, batches = self.first_batch, self.global_batches()
        numbers = count(first) if self.batching.repeats else repeat(0)
        return map(self._own, batches[first:], repeat(self.epoch), numbers)

    def global_batches(self) -> list[np.ndarray]:
        """List the samples of every batch of the epoch, over all ranks."""
        facts, seed, epoch = self.facts, self.seed, self.epoch
        order, chance = np.arange(len(facts)), None
        if self.shuffle:
            order = self.batching.order(facts, self.batch_size, seed=seed, epoch=epoch)
            chance = np.random.default_rng((seed, epoch, 2))
        batches = self.batching.batches(order, facts, self.batch_size, generator=chance)
        return batches[: len(self)] if self.drop_last else batches

    def _own(self, batch: np.ndarray, epoch: int, number: int) -> list[SampleKey]:
        """Return this rank's part of a batch; it is never empty."""
        local = -(-len(batch) // self.world_size)
        places = np.arange(self.rank * local, (self.rank + 1) * local) % len(batch)
        return [SampleKey(epoch, int(index), number) for index in batch[places]]

    def describe(self) -> dict[str, Any]:
        """Name all that the global batches of an epoch follow from."""
        return {
            "num_samples": len(self.facts),
            "samples": self.facts.digest,
            "batch_size": self.batch_size,
            "batching": self.batching.describe(),
            "seed": self.seed,
        }


def sample_generator(seed: int, key: SampleKey) -> np.random.Generator:
    """Make the source of all chance in one sample: text, scan, augmentation."""
    again = (key.batch,) if key.batch else ()
    return np.random.default_rng((seed, key.epoch, 1, key.sample, *again))


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
        """Choose among the scans that a sample may show; how many does not depend on chance."""

    def target(self, spec: SampleSpec, study: Row, generator: np.random.Generator) -> Row | None:
        """Return the lesion or question that the sample is about."""
        return spec.target


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
        compat: "published" gives every study exactly `max_scans`, in a random order: a shorter one
            repeats its scans, as HLIP does to fill rectangular batches. Here batches are packed and
            exact without.
    """

    def __init__(
        self, max_scans: int | None = None, *, compat: Literal["published"] | None = None
    ) -> None:
        if max_scans is not None and max_scans < 1:
            raise ValueError(f"max_scans is {max_scans}, expected at least 1")
        if compat is not None and max_scans is None:
            raise ValueError("compat='published' repeats scans up to max_scans, which is not set")
        self.max_scans = max_scans
        self.compat: Literal["published"] | None = compat

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample of the study."""
        return [_whole(study)]

    def choose(self, scans: Sequence[int], generator: np.random.Generator) -> Sequence[int]:
        """Take all in their order, or draw `max_scans` and keep their order."""
        if self.compat is not None and self.max_scans is not None:
            order = generator.permutation(len(scans))
            return [scans[int(order[i % len(scans)])] for i in range(self.max_scans)]
        if self.max_scans is None or len(scans) <= self.max_scans:
            return list(scans)
        drawn = generator.choice(len(scans), self.max_scans, replace=False)
        return [scans[int(index)] for index in sorted(drawn)]


class EachLesion(RandomScan):
    """Every lesion is a sample of its own, on one scan of its study; others give none."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample per lesion."""
        return _about(study, "lesions", "lesion_id")


class EachPlace(RandomScan):
    """Every place of every lesion is a sample of its own: a lesion at two places gives two."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample per lesion and place; lesions without a place give none."""
        return [
            spec._replace(
                sample_id=f"{spec.sample_id}#{number}",
                target={**spec.target, "place": place, "coarse": coarse, "fine": fine},
            )
            for spec in _about(study, "lesions", "lesion_id")
            if spec.target is not None and spec.target["coarse"]
            for number, (place, coarse, fine) in enumerate(_places(spec.target))
        ]


class EachQuestion(RandomScan):
    """Every question is a sample of its own, on one scan of its study; others give none."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample per question."""
        return _about(study, "questions", None)


class RandomQuestion(RandomScan):
    """One random question of a study per epoch, on one random scan; others give none."""

    def samples(self, study: Row) -> list[SampleSpec]:
        """Make one sample of a study that has questions."""
        return [_whole(study)] if study.get("questions") else []

    def target(self, spec: SampleSpec, study: Row, generator: np.random.Generator) -> Row | None:
        """Draw a question."""
        questions = study["questions"]
        return questions[int(generator.integers(len(questions)))]


def _whole(study: Row) -> SampleSpec:
    return SampleSpec(study["study_id"], tuple(range(len(study["scans"]))))


def _places(lesion: Row) -> list[tuple[str, str, str]]:
    """List name, coarse place and fine word of each place of a lesion; tables join them."""
    columns = (str(lesion[key]).split(",") for key in ("place", "coarse", "fine"))
    return list(zip(*columns, strict=True))


def _about(study: Row, targets: str, id_key: str | None) -> list[SampleSpec]:
    scans = tuple(range(len(study["scans"])))
    return [
        SampleSpec(f"{study['study_id']}/{row[id_key] if id_key else number}", scans, row)
        for number, row in enumerate(study.get(targets, ()))
    ]
