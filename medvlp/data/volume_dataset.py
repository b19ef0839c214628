"""Samples of prepared studies: scans from the cache, texts and labels from the manifest."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data.batch_memory import empty_batch
from medvlp.data.batching import SampleFacts
from medvlp.data.manifest import Manifest, Row
from medvlp.data.recipe import Recipe, Region
from medvlp.data.sampling import SampleKey, ScanChoice, sample_generator
from medvlp.data.statements import statements_of
from medvlp.data.text_sampler import TextSampler, TextUnit

Augmentation = Callable[[Tensor, np.random.Generator], Any]  # Any: jsonargparse takes a class here
"""From network input (1 d h w) to the same; the generator is the only source of chance."""


@dataclass(frozen=True)
class Sample:
    """One study, or one scan of it, before batching.

    Attributes:
        inputs: Of each chosen scan, field name to tensor, see `Recipe.inputs`.
        study_id: See `VolumeBatch`.
        sample_id: See `VolumeBatch`.
        patient_id: See `VolumeBatch`.
        labels: In the order of the label names, -1 unknown.
        texts: Empty where texts are not asked for.
        statements: All statements of the report.
        metadata: Sex, age, scanner and the like.
        target: The lesion or question that the sample is about.
    """

    inputs: list[dict[str, Tensor]]
    study_id: str
    sample_id: str
    patient_id: str
    labels: list[int]
    texts: list[TextUnit]
    statements: tuple[int, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    target: Row | None = None


class PackedSamples(list[Sample]):
    """Samples some of whose inputs already lie in a batch, so that they need not be copied.

    Args:
        samples: Their inputs are rows of the batch.
        packed: Field name to batch.
    """

    def __init__(self, samples: Iterable[Sample], packed: Mapping[str, Tensor]) -> None:
        super().__init__(samples)
        self.packed = packed


class VolumeDataset(Dataset[list[Sample]]):
    """The samples of one split, asked for in lists: a list of keys is one batch.

    Args:
        manifest: Prepared studies.
        recipe: Turns stored volumes into network inputs.
        rows: Which studies of the manifest.
        scans: What a sample is.
        texts: None leaves texts out.
        label_names: Order of the labels.
        seed: Of all chance in the samples.
        augment: Applied to each image in this order.
        training: Let the recipe take random crops.
        defer: Leave the dense half of the recipe to the device, see `Recipe.pack`.

    Attributes:
        facts: What is known of the samples before they are read.
    """

    def __init__(
        self,
        manifest: Manifest,
        recipe: Recipe,
        *,
        rows: np.ndarray,
        scans: ScanChoice,
        texts: TextSampler | None,
        label_names: Sequence[str],
        seed: int,
        augment: Sequence[Augmentation] = (),
        training: bool = False,
        defer: bool = False,
    ) -> None:
        self.manifest, self.recipe, self.scans, self.texts = manifest, recipe, scans, texts
        self.label_names, self.seed, self.augment = tuple(label_names), seed, tuple(augment)
        self.defer, self.training = defer, training
        self._in_memory: dict[tuple[str, str], np.ndarray] | None = None
        # Arrays, not lists of objects: forked workers share them without copying pages.
        self._row, self._nth, self.facts = _list_samples(manifest, rows, scans)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, keys: Sequence[SampleKey]) -> list[Sample]:
        """Make the samples of one batch."""
        if not self.defer:
            return [self._sample(key) for key in keys]
        num_scans = int(self.facts.num_scans[[key.sample for key in keys]].sum())
        images = empty_batch((num_scans, 1, *self.recipe.size), self.recipe.packed_dtype)
        rows = iter(images)
        samples = PackedSamples([self._sample(key, rows) for key in keys], {"image": images})
        assert next(rows, None) is None  # the number of scans does not depend on chance
        return samples

    def load_into_memory(self) -> None:
        """Decompress every scan of the split once; for small volumes that fit."""
        stored: dict[tuple[str, str], np.ndarray] = {}
        for row in np.unique(self._row):
            for scan in self.manifest[int(row)]["scans"]:
                for name in self.recipe.fields:
                    scan_id = scan["scan_id"]
                    stored[scan_id, name] = self.manifest.cache.read(scan_id, field=name)
        self._in_memory = stored

    def _sample(self, key: SampleKey, rows: Iterator[Tensor] | None = None) -> Sample:
        study = self.manifest[int(self._row[key.sample])]
        generator = sample_generator(self.seed, key)
        spec = self.scans.samples(study)[self._nth[key.sample]]
        chosen = self.scans.choose(spec.scans, generator)
        target = self.scans.target(spec, study, generator)
        sections = study["texts"]
        texts: list[TextUnit] = []
        if self.texts is not None:
            texts = self.texts.about(sections, target, generator, training=self.training)
        scan_rows = [study["scans"][i] for i in chosen]
        return Sample(
            inputs=[
                self._inputs(scan, target, generator) if rows is None else self._pack(scan, rows)
                for scan in scan_rows
            ],
            study_id=study["study_id"],
            sample_id=spec.sample_id,
            patient_id=study["patient_id"],
            labels=[int(study["labels"].get(name, -1)) for name in self.label_names],
            texts=texts,
            statements=statements_of(sections),
            metadata=study["metadata"],
            target=target,
        )

    def _inputs(
        self, scan: Row, target: Row | None, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        read = partial(self._read, scan["scan_id"])
        chance = generator if self.training else None
        inputs = self.recipe.inputs(read, scan, target=target, generator=chance)
        for augment in self.augment:
            inputs["image"] = augment(inputs["image"], generator)
        return inputs

    def _pack(self, scan: Row, rows: Iterator[Tensor]) -> dict[str, Tensor]:
        depth, height, width = scan["shape"]
        row = next(rows)
        read_into = partial(self._read_into, scan["scan_id"])
        self.recipe.pack(read_into, (depth, height, width), row.numpy())
        return {"image": row}

    def _read_into(self, scan_id: str, region: Region, out: np.ndarray) -> None:
        if self._in_memory is None:
            self.manifest.cache.read(scan_id, region, out=out)
        else:
            out[...] = self._in_memory[scan_id, "image"][region]

    def _read(self, scan_id: str, name: str, region: Region | None) -> np.ndarray:
        if self._in_memory is None:
            return self.manifest.cache.read(scan_id, region, field=name)
        stored = self._in_memory[scan_id, name]
        return stored if region is None else stored[region]


def _list_samples(
    manifest: Manifest, rows: np.ndarray, scans: ScanChoice
) -> tuple[np.ndarray, np.ndarray, SampleFacts]:
    """Return the manifest row of each sample, its number within the study, and the facts."""
    counts, num_scans, text_length = [], [], []
    places: list[tuple[str, str, str]] = []
    digest, unused = hashlib.blake2b(digest_size=16), np.random.default_rng(0)
    for row in rows:
        study = manifest[int(row)]
        specs = scans.samples(study)
        length = sum(map(len, study["texts"].values()))
        counts.append(len(specs))
        num_scans += [len(scans.choose(spec.scans, unused)) for spec in specs]
        text_length += [length] * len(specs)
        targets = ((spec.target or {}) for spec in specs)
        # one place each: of several, no batch could say which is meant
        tagged = [row for row in targets if row.get("coarse") and "," not in row["coarse"]]
        places += [
            (f"{study['study_id']}/{row['lesion_id']}", row["coarse"], row["fine"])
            for row in tagged
        ]
        digest.update(repr([(*spec[:2], length) for spec in specs]).encode())
    facts = SampleFacts(
        np.asarray(num_scans, np.int64),
        np.asarray(text_length, np.int64),
        digest.hexdigest(),
        places if len(places) == len(num_scans) else (),
    )
    nth = np.concatenate([np.arange(count) for count in counts] or [np.arange(0)])
    return np.repeat(np.asarray(rows, np.int64), counts), nth, facts
