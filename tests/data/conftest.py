import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.ct_rate import LABEL_NAMES
from medvlp.data.ct_recipe import CTRecipe


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def raw_chest(seed: int) -> np.ndarray:
    """Axes (i, j, k), numbers as CT-RATE v1 stores them: air near 24, tissue near 1064."""
    generator = np.random.default_rng(seed)
    values = np.full((12, 10, 8), 24.0)
    values[2:10, 2:8] = 1064.0
    return (values + generator.normal(0, 5, values.shape)).astype(np.int16)


@pytest.fixture
def recipe() -> CTRecipe:
    return CTRecipe((6, 8, 8), (3.0, 1.0, 1.0), window_hu=(-1150.0, 350.0), mean=0.449, std=0.226)


class CTRateTree:
    """A CT-RATE folder of a few volumes, whose tables a test may spoil before they are written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dataset = root / "dataset"
        self.reports: dict[str, list[dict[str, object]]] = {"train": [], "valid": []}
        self.labels: dict[str, list[dict[str, object]]] = {"train": [], "valid": []}
        self.metadata: dict[str, list[dict[str, object]]] = {"train": [], "valid": []}
        for split, patients in {"train": 6, "valid": 2}.items():
            for patient in range(1, patients + 1):
                for reconstruction in (1, 2):
                    self.add(split, f"{split}_{patient}_a_{reconstruction}.nii.gz", patient)

    def add(self, split: str, name: str, patient: int) -> None:
        self.reports[split].append(
            {
                "VolumeName": name,
                "Findings_EN": f"The lungs are clear. A nodule of {patient}.5 mm.",
                "Impressions_EN": f"Nodule number {patient}",
            }
        )
        self.labels[split].append(
            {"VolumeName": name} | {label: int(label == "Lung nodule") for label in LABEL_NAMES}
        )
        self.metadata[split].append(
            {
                "VolumeName": name,
                "Manufacturer": "Maker",
                "PatientSex": "F",
                "PatientAge": "036Y",
                "XYSpacing": "[1.0, 1.5]",
                "RescaleIntercept": -1024,
                "RescaleSlope": 1,
                "ZSpacing": 2.0,
            }
        )

    def path(self, name: str) -> Path:
        split, patient, session, _ = name.split(".")[0].split("_")
        folder = self.dataset / split / f"{split}_{patient}" / f"{split}_{patient}_{session}"
        return folder / name

    def write(self) -> Path:
        for number, row in enumerate([r for rows in self.metadata.values() for r in rows]):
            path = self.path(str(row["VolumeName"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(raw_chest(number), np.diag([-1.0, -1.5, 2.0, 1.0]))
            nib.save(image, path)
        self.write_tables()
        return self.root

    def write_tables(self) -> None:
        for split, prefix in {"train": "train", "valid": "validation"}.items():
            tables = {
                f"metadata/{prefix}_metadata.csv": self.metadata[split],
                f"radiology_text_reports/{prefix}_reports.csv": self.reports[split],
                f"multi_abnormality_labels/{split}_predicted_labels.csv": self.labels[split],
            }
            for name, rows in tables.items():
                write_table(self.dataset / name, rows)


@pytest.fixture
def tree(tmp_path: Path) -> CTRateTree:
    return CTRateTree(tmp_path / "raw")


@pytest.fixture
def save_nifti(tmp_path: Path) -> Callable[..., Path]:
    def save(array: np.ndarray, affine: np.ndarray | None = None, name: str = "x.nii.gz") -> Path:
        path = tmp_path / name
        affine = np.diag([-0.7, -0.8, 2.5, 1.0]) if affine is None else affine
        nib.save(nib.Nifti1Image(array, affine), path)
        return path

    return save
