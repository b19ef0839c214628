"""The tree in which CT-RATE, its masks and RadGenome-ChestCT keep their volumes."""

import os
import re
from pathlib import Path

VOLUME_NAME = re.compile(r"((train|valid)_\d+)_([a-z]+)_(\d+)\.nii(\.gz)?")
"""Patient, split, session letter, number of the reconstruction, suffix."""


def dataset_folder(root: Path, holds: str) -> Path | None:
    """Find the folder that has a folder `holds` in it: `dataset/`, or the root itself."""
    candidates = (root / "dataset", root)
    return next((folder for folder in candidates if (folder / holds).is_dir()), None)


def volume_files(folder: Path) -> dict[str, Path]:
    """Find <patient>/<session>/<volume> by listing: no path is ever built from a table.

    Args:
        folder: Holds patients. A session folder is train_1_a, or train_1a as RadGenome-ChestCT
            has it; files whose name does not belong to their folder do not count.

    Returns:
        Volume name (with suffix) to path, sorted by folder.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there; it must hold the volumes of the split")
    files: dict[str, Path] = {}
    for patient in _folders(folder):
        for session in _folders(patient):
            for volume in sorted(os.scandir(session), key=lambda entry: entry.name):
                match = VOLUME_NAME.fullmatch(volume.name)
                names = (f"{match[1]}_{match[3]}", f"{match[1]}{match[3]}") if match else ()
                if session.name in names and volume.is_file():
                    files[volume.name] = Path(volume.path)
    return files


def _folders(folder: Path) -> list[Path]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    return [Path(entry.path) for entry in entries if entry.is_dir()]
