import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

from medvlp.data.readers.image2d import read_image
from medvlp.data.readers.registry import known_suffixes, read

from .dicom_writer import voxels, write_enhanced, write_series


def test_every_format_is_known() -> None:
    expected = {".nii", ".nii.gz", ".dcm", ".ima", ".npz", ".npy", ".pt", ".nrrd", ".mha", ".mhd"}
    assert expected <= set(known_suffixes())


def test_a_dicom_file_is_known_by_content_and_a_policy_reaches_it(tmp_path: Path) -> None:
    assert read(write_enhanced(tmp_path / "IM0001")).provenance["reader"] == "dicom"
    folder = write_series(tmp_path / "s", step=(0.0, 0.8, 0.8))
    files = sorted(folder.iterdir())
    with pytest.warns(UserWarning, match="shifted straight"):
        assert read(folder, files, irregular="correct").array.shape == (5, 8 + 4, 6)
    with pytest.warns(UserWarning, match="3 slices with a gantry tilt"):
        assert read(folder, files[:3], irregular="correct").array.shape[0] == 3


def write_mha(path: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(path))
    return path


@pytest.mark.parametrize(
    ("library", "write", "reader", "extra"),
    [
        ("pydicom", lambda folder: write_series(folder / "s"), read, "dicom"),
        ("pydicom", lambda folder: write_enhanced(folder / "x.dcm"), read_image, "dicom"),
        ("SimpleITK", lambda folder: write_mha(folder / "x.mha"), read, "formats"),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    write: Callable[[Path], Path],
    reader: Callable[[Path], object],
    extra: str,
) -> None:
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install 'medvlp\[{extra}\]'"):
        reader(path)
