"""Lesions at random places of one labelled scan: the label where a lesion lies is its place.

For any scan with a label map (TotalSegmentator's output, an atlas with its template) and names for
its labels. Lesions are not in the files: `medvlp.data.painted_lesions` paints each into its patch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from medvlp.data.anatomy_positions import PositionRule
from medvlp.data.body_levels import SidesAndLevels
from medvlp.data.label_names import read_label_names
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.place_file import Place
from medvlp.data.readers.registry import read
from medvlp.data.records import Lesion, ScanRecord, Skip, StudyRecord, StudySource


class AnatomyLesions(StudySource):
    """A scan cut into blocks, each a study (and a patient) with lesions in it.

    Training and held-out lesions lie in different blocks, and intervals over patients are over
    blocks: lesions that lie close together are not independent. All studies share the one scan.
    Labels whose name the vocabulary does not have, also as a synonym, get no lesions.

    Args:
        image: CT in HU, or MR.
        labels: Label map; 0 is no label. It may have a grid of its own.
        vocabulary: Name of a shipped one, or a file of places; names of labels are found in it as
            final names or synonyms.
        descriptions: File of its texts, where they are a file of their own.
        names: File of names, see `read_label_names`; None takes those in the header of
            TotalSegmentator's files, or its classes.
        division: Divides the map into places that are not its labels; None leaves the labels.
        positions: Which positions are drawn.
        radius_mm: Smallest and largest radius of a lesion.
        modality: DICOM code of the image.
        name: Names the cache folder.
    """

    label_names: tuple[str, ...] = ()

    def __init__(
        self,
        image: str,
        labels: str,
        *,
        vocabulary: str,
        descriptions: str | None = None,
        names: str | None = None,
        division: SidesAndLevels | None = None,
        positions: PositionRule | None = None,
        radius_mm: Sequence[float] = (1.5, 4.0),
        modality: str = "CT",
        name: str = "anatomy",
    ) -> None:
        if len(radius_mm) != 2 or not 0 < radius_mm[0] <= radius_mm[1]:
            raise ValueError(f"radius_mm is {list(radius_mm)}, expected two lengths above 0")
        self.image, self.labels = Path(image), Path(labels)
        self.names = None if names is None else Path(names)
        self.vocabulary, self.descriptions = vocabulary, descriptions
        self.modality, self.name = modality, name
        self.division = division
        self.positions = positions or PositionRule()
        self.radius_mm = (float(radius_mm[0]), float(radius_mm[1]))
        self.skips: list[Skip] = []

    def describe(self) -> dict[str, Any]:
        """State files, names and rules."""
        return {
            "name": self.name,
            "image": str(self.image.resolve()),
            "labels": str(self.labels.resolve()),
            "names": None if self.names is None else str(self.names.resolve()),
            "vocabulary": PlaceVocabulary.load(self.vocabulary, self.descriptions).digest,
            "division": None if self.division is None else self.division.describe(),
            "positions": self.positions.describe(),
            "radius_mm": list(self.radius_mm),
            "modality": self.modality,
        }

    def studies(self) -> Iterator[StudyRecord]:
        """Yield the blocks that have lesions, in the order of their place."""
        self.skips.clear()
        for path in (self.image, self.labels):
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is not there; give a scan (data.source.image) and its label map "
                    "(data.source.labels), as TotalSegmentator writes it with --ml"
                )
        label_map = read(self.labels)
        leaf, leaf_names = label_map.array, read_label_names(self.names, self.labels)
        if self.division is not None:
            leaf, leaf_names = self.division.leaves(label_map, leaf_names)
        places = self._places(leaf, leaf_names)
        drawn = self.positions.draw(leaf, label_map.spacing_mm, places, structures=label_map.array)
        self.skips += [
            Skip(str(self.labels), f"{places[label].name!r} has no position for {split!r}")
            for label, split in drawn.without
        ]
        chance = np.random.default_rng((self.positions.seed, 1))
        sides = 2 * chance.uniform(*self.radius_mm, size=(len(drawn.label), 3))
        boxes = np.concatenate([_world(drawn.index, label_map.affine), sides], axis=1)
        scan = ScanRecord(self.name, self.image, modality=self.modality)
        for block in np.unique(drawn.block):
            rows = np.flatnonzero(drawn.block == block)
            name = f"{self.name} block {block:05d}"
            yield StudyRecord(
                study_id=name,
                patient_id=name,
                split=str(drawn.split[rows[0]]),
                scans=(scan,),
                lesions=tuple(
                    _lesion(f"{row:05d}", boxes[row], places[int(drawn.label[row])]) for row in rows
                ),
            )

    def _places(
        self, leaf: Integer[np.ndarray, "d h w"], names: Mapping[int, str]
    ) -> dict[int, Place]:
        """Find the places of the labels that are there; say which have none."""
        vocabulary = PlaceVocabulary.load(self.vocabulary, self.descriptions)
        places: dict[int, Place] = {}
        for label in np.unique(leaf[leaf > 0]).tolist():
            try:
                places[int(label)] = vocabulary.locate(names.get(int(label), f"label {label}"))
            except ValueError as error:
                self.skips.append(Skip(str(self.labels), f"label {label}: {error}; no lesions"))
        if not places:
            raise ValueError(
                f"none of the labels of {self.labels} has a place in {self.vocabulary}: "
                f"{self.skips[0].reason if self.skips else 'it holds nothing above 0'}"
            )
        return places


def _world(index: Float[np.ndarray, "n 3"], affine: Float[np.ndarray, "4 4"]) -> np.ndarray:
    """Turn indices (d, h, w) into LPS millimetres."""
    ras = index[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    return ras * [-1.0, -1.0, 1.0]


def _lesion(lesion_id: str, box_mm: Float[np.ndarray, "6"], place: Place) -> Lesion:
    x, y, z, width, height, depth = box_mm.tolist()
    box = (x, y, z, width, height, depth)
    return Lesion(lesion_id, box, 0, place.name, place.coarse, place.fine)
