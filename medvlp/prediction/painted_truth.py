"""Studies of a twin with the masks of their findings, for the pointing game."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from medvlp.data.manifest import Manifest, Row, dataset_folder
from medvlp.data.network_grid import ScanGrid
from medvlp.data.readers.registry import read
from medvlp.data.recipe import Recipe
from medvlp.data.scan import reorient
from medvlp.phantom.source import TwinSource


@dataclass(frozen=True)
class PaintedScan:
    """One prepared scan and what was painted into it.

    Attributes:
        image: Network input (c d h w).
        grid: How that lies in the scan.
        findings: Ids of findings on the scan's grid; 0 where there is none.
    """

    image: Float[Tensor, "c d h w"]
    grid: ScanGrid
    findings: np.ndarray


class PaintedTwin:
    """The held-out studies of a prepared twin.

    Args:
        data: The data node of the checkpoint's tree.
        recipe: Of the checkpoint.

    Raises:
        FileNotFoundError: If the twin is not prepared, or has no masks.
        ValueError: If the data set is no twin.
    """

    def __init__(self, data: Mapping[str, Any], recipe: Recipe) -> None:
        source = instantiate(data["source"], _convert_="all")
        if not isinstance(source, TwinSource):
            raise ValueError(
                f"the pointing game needs masks of findings, which only twins have; the "
                f"checkpoint's data set is {source.name}"
            )
        self.recipe = recipe
        cache = Path(data["cache_dir"])
        self.manifest = Manifest(dataset_folder(cache, source.name, recipe.stored_hash))
        self.truth = source.twin_root / "ground_truth"
        if not (self.truth / "labels.json").is_file():
            raise FileNotFoundError(
                f"the twin has no masks: {self.truth / 'labels.json'} is absent"
            )
        ids = json.loads((self.truth / "labels.json").read_text(encoding="utf-8"))["findings"]
        self.id_of = {name: int(number) for number, name in ids.items()}

    def rows(self) -> list[Row]:
        """List the held-out studies."""
        return [row for row in self.manifest if row["split"] == "test"]

    def samples(self, row: Row, *, several: bool) -> Iterator[list[PaintedScan]]:
        """Yield the scans of a study together, or one by one."""
        scans = [self._scan(scan) for scan in row["scans"]]
        if several:
            yield scans
        else:
            yield from ([scan] for scan in scans)

    def _scan(self, scan: Row) -> PaintedScan:
        def read_field(name: str, region: Any) -> np.ndarray:
            return self.manifest.cache.read(scan["scan_id"], region, field=name)

        mask = read(self.truth / "findings" / f"{scan['scan_id'].split('/')[-1]}.nii.gz")
        findings, _ = reorient(mask.array, mask.orientation, scan["raw_orientation"])
        deep, high, wide = findings.shape
        depth, height, width = scan["shape"]
        letters = scan.get("orientation") or getattr(self.recipe, "orientation", "")
        return PaintedScan(
            image=self.recipe.inputs(read_field, scan)["image"],
            grid=ScanGrid(
                self.recipe,
                letters,
                (depth, height, width),
                int(scan.get("num_channels", 1)),
                scan["raw_orientation"],
                (deep, high, wide),
            ),
            findings=findings,
        )


def strongest_places(
    maps: Float[Tensor, "k s d h w"], scans: list[PaintedScan]
) -> list[tuple[int, tuple[int, int, int] | None]]:
    """Give for each map the scan and voxel at the centre of its strongest token.

    The trilinear map has its maximum there; that of a token at the edge goes on to the edge.
    """
    places = []
    for one in maps:
        index, *token = np.unravel_index(int(one.argmax()), tuple(one.shape))
        shape = [int(length) for length in one.shape[1:]]
        at = scans[int(index)].grid.to_scan_index([int(n) for n in token], shape)
        places.append((int(index), at))
    return places


def study_image(scans: list[PaintedScan]) -> Float[Tensor, "s c d h w"]:
    """Stack the network inputs of a sample."""
    return torch.stack([scan.image for scan in scans])
