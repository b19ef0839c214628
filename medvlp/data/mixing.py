"""Several data sets as one stream: in full, or drawn with weights of sets or of modalities."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from medvlp.data.batching import FixedSize, SampleFacts

_LOG = logging.getLogger(__name__)
_GOLDEN = (5**0.5 - 1) / 2  # its multiples fill the unit interval evenly, however many are taken


@dataclass(frozen=True)
class Component:
    """One of the sets that are mixed; their samples stand in a row.

    Attributes:
        name: Of the set.
        modality: Of its images; "" where it is not known.
        shards: The shard of each sample, rising.
    """

    name: str
    modality: str
    shards: Int[ndarray, " s"]


class Mixture:
    """Orders the samples of several sets that stand in a row, epoch by epoch.

    Without weights and temperature an epoch shows every sample once. With either, each place of the
    epoch belongs to a group (a set, or all sets of a modality), and a group is gone through in a
    new permutation each time it is exhausted. The groups alternate so evenly that every batch, and
    every rank's part of it, holds their shares to within a few samples.

    Args:
        weights: Of the groups, by name or in their order, not all zero.
        by: What a group is: "set", or "modality" for all sets of one.
        weight_of: "group": weights are the shares of the groups. "sample": the share of a group is
            its weight times its size, as in UniMed-CLIP's configs, where every shard of 1000
            samples has the weight of its set.
        temperature: In place of weights: shares are the sizes to the power 1 / temperature. 1 draws
            by size, 2 by its square root, and a large number nearly evenly.
        one_per_batch: Each batch comes from one group: its negatives cannot be told apart by their
            modality. Samples that do not fill a last batch of their group are left out.
        epoch_size: Samples of an epoch with weights or temperature; None takes what there are.
    """

    def __init__(
        self,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        *,
        by: str = "set",
        weight_of: str = "group",
        temperature: float | None = None,
        one_per_batch: bool = False,
        epoch_size: int | None = None,
    ) -> None:
        if by not in ("set", "modality") or weight_of not in ("group", "sample"):
            raise ValueError(
                f"by is {by!r} and weight_of {weight_of!r}; expected 'set' or 'modality', and "
                "'group' or 'sample'"
            )
        _check_numbers(weights, temperature, epoch_size)
        self.weights = dict(weights) if isinstance(weights, Mapping) else weights and list(weights)
        self.by, self.weight_of = by, weight_of
        self.temperature, self.one_per_batch = temperature, one_per_batch
        self.epoch_size = epoch_size

    @property
    def is_exact(self) -> bool:
        """Whether an epoch shows every sample once."""
        return self.weights is None and self.temperature is None

    def check(self, components: Sequence[Component]) -> None:
        """Look for groups without a sample.

        Raises:
            ValueError: If one of them has a weight, or weights do not fit the groups.
        """
        shares = self.shares(components)
        if not self.is_exact:
            told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            _LOG.info("of the samples of an epoch: %s", told)
        empty = [name for name, group in self.groups(components).items() if not len(group)]
        if empty:
            _LOG.warning("nothing of %s is trained on: no usable sample", ", ".join(empty))

    def num_batches(self, components: Sequence[Component], batch_size: int) -> int:
        """Count the full batches of an epoch."""
        if self.one_per_batch and self.is_exact:
            return sum(len(group) // batch_size for group in self.groups(components).values())
        return (self.epoch_size or _num_samples(components)) // batch_size

    def order(
        self, components: Sequence[Component], batch_size: int, *, seed: int, epoch: int
    ) -> Int[ndarray, " s"]:
        """List the samples of an epoch by their position in the row of all sets.

        >>> row = [Component("a", "ct", np.zeros(2, int)), Component("b", "ct", np.zeros(3, int))]
        >>> sorted(Mixture().order(row, 2, seed=0, epoch=0).tolist())
        [0, 1, 2, 3, 4]
        """
        generator = np.random.default_rng((seed, epoch, 2))
        groups = list(self.groups(components).values())
        if self.is_exact and not self.one_per_batch:
            return generator.permutation(_num_samples(components))
        if self.is_exact:
            whole = [len(group) // batch_size for group in groups]
            chosen = generator.permutation(np.repeat(np.arange(len(groups)), whole))
        else:
            shares = list(self.shares(components).values())
            count = self.num_batches(components, batch_size)
            count *= 1 if self.one_per_batch else batch_size
            chosen = _alternate(shares, count, generator)
        if self.one_per_batch:
            chosen = np.repeat(chosen, batch_size)
        return _fill(groups, chosen, generator)

    def groups(self, components: Sequence[Component]) -> dict[str, ndarray]:
        """List the positions of each group's samples.

        Raises:
            ValueError: If a set has no modality, or two have one name.
        """
        ends = np.cumsum([len(one.shards) for one in components])
        parts: dict[str, list[ndarray]] = {}
        for one, end in zip(components, ends, strict=True):
            name = one.modality if self.by == "modality" else one.name
            if self.by == "modality" and not name:
                raise ValueError(f"the set {one.name} has no modality, and they are mixed by it")
            if self.by == "set" and name in parts and not self.is_exact:
                raise ValueError(f"two sets are named {name}; give each its own name to mix them")
            parts.setdefault(name, []).append(np.arange(end - len(one.shards), end))
        return {name: np.concatenate(ranges) for name, ranges in parts.items()}

    def shares(self, components: Sequence[Component]) -> dict[str, float]:
        """Say what share of the samples each group has.

        Raises:
            ValueError: If weights do not fit the groups, or none has a sample.
        """
        sizes = {name: len(group) for name, group in self.groups(components).items()}
        if self.weights is None:
            power = 1 / (self.temperature or 1)
            raw = {name: size**power if size else 0.0 for name, size in sizes.items()}
        else:
            raw = named_weights(self.weights, sizes)
            empty = [name for name, weight in raw.items() if weight and not sizes[name]]
            if empty:
                raise ValueError(
                    f"there is no usable sample of {', '.join(empty)}, but a weight: look into "
                    "quarantine.csv in the cache for what was left out, or set the weight to 0"
                )
            if self.weight_of == "sample":
                raw = {name: weight * sizes[name] for name, weight in raw.items()}
        total = sum(raw.values())
        if not total:
            raise ValueError(
                f"no set has a usable sample to train on: {', '.join(sizes)}; the log and "
                "quarantine.csv in the cache say what was left out"
            )
        return {name: value / total for name, value in raw.items()}

    def describe(self) -> dict[str, Any]:
        """Name in JSON types what decides the order."""
        return {"kind": type(self).__name__, **vars(self)}


class Mixed(FixedSize):
    """Batches of a mixture of sets, for training.

    Args:
        mixture: How the sets are mixed.
        components: The sets.
    """

    def __init__(self, mixture: Mixture, components: Sequence[Component]) -> None:
        mixture.check(components)
        self.mixture, self.components = mixture, tuple(components)

    def check(self, facts: SampleFacts, batch_size: int, *, world_size: int) -> None:
        """See `Batching.check`."""
        super().check(facts, batch_size, world_size=world_size)
        if self.mixture.one_per_batch and self.mixture.is_exact:
            sizes = {
                name: len(group) for name, group in self.mixture.groups(self.components).items()
            }
            small = [f"{name} ({size})" for name, size in sizes.items() if 0 < size < batch_size]
            if small:
                told = ", ".join(small)
                _LOG.warning("nothing of %s is trained on: no batch of %d", told, batch_size)

    def num_full_batches(self, facts: SampleFacts, batch_size: int) -> int:
        """See `Batching.num_full_batches`."""
        return self.mixture.num_batches(self.components, batch_size)

    def order(
        self, facts: SampleFacts, batch_size: int, *, seed: int, epoch: int
    ) -> Int[ndarray, " s"]:
        """See `Batching.order`."""
        return self.mixture.order(self.components, batch_size, seed=seed, epoch=epoch)

    def describe(self) -> dict[str, Any]:
        """Name what decides the batches."""
        sizes = {one.name: len(one.shards) for one in self.components}
        return {"kind": type(self).__name__, "mixture": self.mixture.describe(), "sizes": sizes}


def _check_numbers(
    weights: Sequence[float] | Mapping[str, float] | None,
    temperature: float | None,
    epoch_size: int | None,
) -> None:
    if weights is not None:
        values = list(weights.values() if isinstance(weights, Mapping) else weights)
        if not values or min(values) < 0 or not any(values):
            raise ValueError(f"weights are {values}, expected none below and one above 0")
    if temperature is not None and (weights is not None or temperature <= 0):
        raise ValueError(
            f"temperature is {temperature}: it must be above 0, and weights must not be given "
            "beside it"
        )
    if epoch_size is not None and (epoch_size < 1 or (weights is None and temperature is None)):
        raise ValueError(
            f"epoch_size is {epoch_size}: it must be positive, and needs weights or a temperature; "
            "without them an epoch shows every sample once"
        )


def named_weights(
    weights: Sequence[float] | Mapping[str, float], sizes: Mapping[str, int]
) -> dict[str, float]:
    """Give each group its weight."""
    if not isinstance(weights, Mapping):
        if len(weights) != len(sizes):
            raise ValueError(
                f"{len(weights)} weights for {len(sizes)} groups ({', '.join(sizes)}): give one "
                "for each, or name them, {group: weight}"
            )
        return dict(zip(sizes, map(float, weights), strict=True))
    unknown, lacking = sorted(set(weights) - set(sizes)), sorted(set(sizes) - set(weights))
    if unknown or lacking:
        raise ValueError(
            f"weights name {', '.join(unknown) or 'nothing'} that is not there and leave out "
            f"{', '.join(lacking) or 'nothing'}; the groups are {', '.join(sizes)}, and each needs "
            "a weight (0 leaves it out)"
        )
    return {name: float(weights[name]) for name in sizes}


def _num_samples(components: Sequence[Component]) -> int:
    return sum(len(one.shards) for one in components)


def _alternate(
    shares: Sequence[float], count: int, generator: np.random.Generator
) -> Int[ndarray, " s"]:
    """Choose the group of each place: any run of places holds nearly the shares."""
    points = (generator.random() + np.arange(count) * _GOLDEN) % 1
    return np.searchsorted(np.cumsum(shares)[:-1], points, side="right")


def _fill(
    groups: Sequence[ndarray], chosen: Int[ndarray, " s"], generator: np.random.Generator
) -> Int[ndarray, " s"]:
    """Put the samples of each group into its places, one permutation after the other."""
    order = np.empty(len(chosen), np.int64)
    for number, group in enumerate(groups):
        places = np.flatnonzero(chosen == number)
        if len(places):
            rounds = range(-(-len(places) // len(group)))
            stream = np.concatenate([generator.permutation(group) for _ in rounds])
            order[places] = stream[: len(places)]
    return order
