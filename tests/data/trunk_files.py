"""A trunk of boxes with TotalSegmentator's ids, and its scan."""

from pathlib import Path

import nibabel as nib
import numpy as np

from medvlp.data.totalsegmentator_classes import class_names

MIDDLE = ("femur", "hip", "S1", "L5", "L4", "L3", "L2", "L1", "T12")  # from below
_VOXEL_MM = 6.0


def write_trunk(folder: Path) -> None:
    """Write ct.nii.gz and segmentation.nii.gz: a bone in the middle of each level, colon beside."""
    ids = {name: number for number, name in enumerate(class_names(), 1)}
    labels = np.zeros((40, 20, 6 * len(MIDDLE)), np.uint8)  # i to the right, j forwards, k upwards
    for level, name in enumerate(MIDDLE):
        k = slice(6 * level, 6 * level + 6)
        labels[3:12, 4:16, k] = labels[28:37, 4:16, k] = ids["colon"]
        if name in ("femur", "hip"):
            labels[15:20, 4:10, k], labels[20:25, 4:10, k] = (
                ids[f"{name}_{side}"] for side in ("left", "right")
            )
        else:
            labels[16:24, 4:10, k] = ids[f"vertebrae_{name}"]
    chance = np.random.default_rng(0)
    image = chance.normal(0, 20, labels.shape) + np.where(labels == ids["colon"], -50, 200)
    image[labels == 0] = -900
    affine = np.diag([_VOXEL_MM, _VOXEL_MM, _VOXEL_MM, 1.0])
    affine[:3, 3] = (-117.0, -60.0, 0.0)
    for name, array in (("ct", image.astype(np.int16)), ("segmentation", labels)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
