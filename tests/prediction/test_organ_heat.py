"""Maps of organs as files, on the voxels that the network saw."""

from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import torch

from medvlp.data.anatomy_mask import AnatomyMask
from medvlp.data.anatomy_recipe import AnatomyRecipe
from medvlp.data.manifest import Manifest
from medvlp.evaluation.organ_heat import OrganHeat
from medvlp.prediction.organ_heat import read_organ_study, write_organ_heat

AFFINE = np.array([[0.0, 0, -1, 50], [0, -1, 0, 60], [3, 0, 0, -70], [0, 0, 0, 1]])  # of (d, h, w)
WINDOW = (-1000.0, 200.0)


class OneStudy(Manifest):
    """A stand-in with one scan of 4 x 6 x 8 voxels, whose brightest voxel is (1, 2, 3)."""

    def __init__(self) -> None:
        image, mask = np.zeros((4, 6, 8), np.uint16), np.zeros((4, 6, 8), np.uint8)
        image[1, 2, 3], mask[1:3, 2:4, 3:5] = 60_000, 1
        fields = {"image": image, "anatomy_mask": mask}
        self.cache: Any = SimpleNamespace(read=lambda scan_id, region, field: fields[field])

    def __getitem__(self, index: int) -> dict[str, Any]:
        scan = {"scan_id": "a", "shape": [4, 6, 8], "affine": AFFINE.tolist()}
        return {"study_id": "a", "scans": [scan]}


def test_a_voxel_of_the_network_keeps_its_place_in_the_world(tmp_path) -> None:
    recipe = AnatomyRecipe(
        (8, 9, 8), (3.0, 1.0, 1.0), window_hu=WINDOW, mask=AnatomyMask({"lung": [10]})
    )
    manifest = OneStudy()
    study = read_organ_study(manifest, recipe, manifest[0])
    assert study.image.shape == (1, 1, 8, 9, 8) and study.anatomy_mask.shape == (1, 8, 9, 8)
    heat = OrganHeat(
        torch.stack([study.image[0, 0], torch.zeros(8, 9, 8)]),
        torch.tensor([0.25, torch.nan]),
        torch.ones(2, 3),
    )
    told, absent = write_organ_heat(
        tmp_path, study, heat, organs=[0, 0], names=["Pleural effusion", "nothing"]
    )
    world = (AFFINE @ [1, 2, 3, 1])[:3].tolist()
    assert told["maximum_ras_mm"] == world and told["score"] == 0.25
    written: Any = nib.load(tmp_path / told["volume"])
    place = np.unravel_index(np.argmax(written.get_fdata()), written.shape)
    assert (written.affine @ [*place, 1])[:3].tolist() == world
    assert (tmp_path / told["overlay"]).read_bytes()[:4] == b"\x89PNG"
    assert absent["volume"] is absent["score"] is absent["overlay"] is None
