"""Samples of prepared studies: scans from the cache, texts and labels from the manifest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data.manifest import Manifest, Row
from medvlp.data.recipe import Recipe
from medvlp.data.sampling import SampleKey, ScanChoice, sample_generator
from medvlp.data.statements import statements_of
from medvlp.data.texts import TextSampler, TextUnit

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]
"""From network input (1 d h w) to the same; the generator is the only source of chance."""


@dataclass(frozen=True)
class Sample:
    """One study, or one scan of it, before batching.

    Attributes:
        images: Network inputs of the chosen scans.
        study_id: See `VolumeBatch`.
        sample_id: See `VolumeBatch`.
        patient_id: See `VolumeBatch`.
        labels: In the order of the label names, -1 unknown.
        texts: Empty where texts are not asked for.
        statements: All statements of the report.
    """

    images: list[Float[Tensor, "1 d h w"]]
    study_id: str
    sample_id: str
    patient_id: str
    labels: list[int]
    texts: list[TextUnit]
    statements: tuple[int, ...]


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
    ) -> None:
        self.manifest, self.recipe, self.scans, self.texts = manifest, recipe, scans, texts
        self.label_names, self.seed, self.augment = tuple(label_names), seed, tuple(augment)
        self._in_memory: dict[str, np.ndarray] | None = None
        # Arrays, not lists of objects: forked workers share them without copying pages.
        counts = [len(self._samples(manifest[int(row)])) for row in rows]
        self._row = np.repeat(np.asarray(rows, dtype=np.int64), counts)
        self._nth = np.concatenate([np.arange(n) for n in counts] or [np.arange(0)])

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, keys: Sequence[SampleKey]) -> list[Sample]:
        """Make the samples of one batch."""
        return [self._sample(key) for key in keys]

    def load_into_memory(self) -> None:
        """Decompress every scan of the split once; for small volumes that fit."""
        stored: dict[str, np.ndarray] = {}
        for row in np.unique(self._row):
            for scan in self.manifest[int(row)]["scans"]:
                stored[scan["scan_id"]] = self._stored(scan)
        self._in_memory = stored

    def _sample(self, key: SampleKey) -> Sample:
        study = self.manifest[int(self._row[key.sample])]
        generator = sample_generator(self.seed, key)
        sample_id, candidates = self._samples(study)[self._nth[key.sample]]
        chosen = self.scans.choose(candidates, generator)
        sections = study["texts"]
        texts = self.texts(sections, generator) if self.texts is not None and sections else []
        return Sample(
            images=[self._image(study["scans"][index], generator) for index in chosen],
            study_id=study["study_id"],
            sample_id=sample_id,
            patient_id=study["patient_id"],
            labels=[int(study["labels"].get(name, -1)) for name in self.label_names],
            texts=texts,
            statements=statements_of(sections),
        )

    def _samples(self, study: Row) -> list[tuple[str, tuple[int, ...]]]:
        return self.scans.samples(study["study_id"], [scan["scan_id"] for scan in study["scans"]])

    def _image(self, scan: Row, generator: np.random.Generator) -> Float[Tensor, "1 d h w"]:
        stored = self._in_memory[scan["scan_id"]] if self._in_memory else self._stored(scan)
        image = self.recipe.network_input(stored)
        for augment in self.augment:
            image = augment(image, generator)
        return image

    def _stored(self, scan: Row) -> np.ndarray:
        depth, height, width = scan["shape"]
        region = self.recipe.region((depth, height, width))
        whole = all(
            part.stop - part.start == n for part, n in zip(region, scan["shape"], strict=True)
        )
        return self.manifest.cache.read(scan["scan_id"], None if whole else region)
