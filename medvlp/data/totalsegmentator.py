"""Organ masks made by TotalSegmentator, if it is installed."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.organ_masks import MadeMask, OrganMasks, file_affine, write_mask
from medvlp.data.read_scan import fingerprint, read_scan
from medvlp.data.records import ScanRecord
from medvlp.data.totalsegmentator_classes import Task


class MadeByTotalSegmentator(OrganMasks):
    """Runs TotalSegmentator on every scan: minutes for each without a GPU.

    It is a package of its own that downloads its weights when it first runs. Its usage statistics
    are turned off.

    Args:
        task: "total" for CT, "total_mr" for MR.
        fast: Work at 3 mm.
        device: "gpu", "cpu", "mps", or "gpu:1".
    """

    in_this_process = True

    def __init__(self, *, task: Task = "total", fast: bool = False, device: str = "gpu") -> None:
        self.task: Task = task
        self.fast, self.device = fast, device
        _totalsegmentator()

    def state(self, record: ScanRecord) -> str:
        """Name the scan's files and what decides about the network."""
        return f"made {fingerprint(record)} {self.task} {self.fast}"

    def make(self, record: ScanRecord, target: Path) -> MadeMask:
        """Segment a scan as its data set states it: in HU, with its geometry."""
        import nibabel as nib

        scan = read_scan(record)
        values = scan.array * scan.rescale.slope + scan.rescale.intercept
        whole = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
        affine = file_affine(scan)
        image = nib.Nifti1Image(whole.transpose(2, 1, 0), affine)
        result = _totalsegmentator()(
            image, None, ml=True, task=self.task, fast=self.fast, device=self.device, quiet=True
        )
        labels = np.asarray(result.dataobj).transpose(2, 1, 0)
        if labels.shape != scan.array.shape:
            raise ValueError(f"TotalSegmentator returned {labels.shape} voxels of {whole.shape}")
        write_mask(target, labels.astype(np.uint8), affine)
        return MadeMask(target)


def _totalsegmentator() -> Any:
    try:
        api = importlib.import_module("totalsegmentator.python_api")
        settings = importlib.import_module("totalsegmentator.config")
    except ImportError as error:
        raise ImportError(
            "masks=totalsegmentator needs TotalSegmentator: pip install TotalSegmentator (it may "
            "replace the installed torch: an environment of its own is safer; then import what it "
            "made with masks=import masks_dir=FOLDER)"
        ) from error
    settings.setup_totalseg()
    settings.set_config_key("send_usage_stats", False)
    return api.totalsegmentator
