"""The 2D twins as sets of images that write themselves when they are opened first."""

from typing import Literal

from medvlp.data.image_catalogue import CatalogueImages
from medvlp.data.shard_images import ShardImages
from medvlp.phantom.registry import TWINS
from medvlp.phantom.twin_parameters import TwinParameters


class ImageTwin:
    """A twin of 2D images and what it is asked to hold.

    Args:
        root: Its folder; written by `materialise()` if it is not there.
        dataset: Which twin.
        num_train: Training images; of "unimed_evaluation", images per class in other splits; of
            "unimed_sources", images of each source.
        num_test: Held-out images, see the writer of the twin.
        seed: Of everything.
        size: Typical pixels along each side.
        num_workers: Processes that write; 0 writes in this one.
        hard_cases: Add the hard cases of the writer.
    """

    def __init__(
        self,
        root: str,
        *,
        dataset: Literal["unimed", "unimed_evaluation", "unimed_sources"],
        num_train: int,
        num_test: int,
        seed: int = 0,
        size: int = 64,
        num_workers: int = 0,
        hard_cases: bool = False,
    ) -> None:
        self.root, self.dataset, self.num_workers = root, dataset, num_workers
        self.parameters = TwinParameters(
            num_train, num_test, seed, (size, size, size), hard_cases=hard_cases
        )

    def materialise(self) -> None:
        """Write the twin; one that is complete is left as it is.

        Raises:
            ValueError: If the folder holds something else, or a twin of other parameters.
        """
        TWINS[self.dataset].load()(self.root, self.parameters, num_workers=self.num_workers)


class TwinShards(ShardImages):
    """One component of UniMed's twin, read by the very code that reads UniMed.

    Args:
        twin: Holds it.
        component: Its folder; also its name.
        modality: Of all its images; empty if they are of several.
    """

    def __init__(self, twin: ImageTwin, *, component: str, modality: str = "") -> None:
        shards = f"{twin.root}/{component}/dataset-*.tar"
        super().__init__(shards, name=component, modality=modality)
        self.twin = twin

    def open(self) -> None:
        """Write the twin if need be, then read the index."""
        self.twin.materialise()
        super().open()


class TwinCatalogue(CatalogueImages):
    """The twin of UniMed-CLIP's evaluation sets, read by the very code that reads those.

    Args:
        twin: Holds them.
        by_modality: Read the twin's own six sets of many classes in place of the 21.
    """

    def __init__(self, twin: ImageTwin, *, by_modality: bool = False) -> None:
        suffix, registry = ("_by_modality", "phantom_unimed") if by_modality else ("", "unimed21")
        catalogue = f"{twin.root}/dataset_catalog{suffix}.json"
        super().__init__(catalogue, registry=registry, name=f"{registry}_twin")
        self.twin = twin

    def open(self) -> None:
        """Write the twin if need be, then read the catalogue."""
        self.twin.materialise()
        super().open()
