"""Studies and boxes that cannot be right, through the verb: what a user is told."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medvlp import localise

from .lesion_files import SHAPE, outputs, save, write_published, write_study

INSIDE = ["--box", "90", "90", "80", "24", "24", "24"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stage")
    return ["--coarse", str(write_published(folder / "params.pth")), "--vocabulary", "phantom"]


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    return write_study(tmp_path)


def told(out: Path, *arguments: str, lost: bool = True) -> list[str]:
    """Return the remarks; the exit code says whether a lesion was lost."""
    options = [*arguments, "--out", str(out), "--no-pictures"]
    if not lost:
        localise.main(options)
    else:
        with pytest.raises(SystemExit) as end:
            localise.main(options)
        assert end.value.code == localise.NO_ANSWER_CODE
    rows, _ = outputs(out)
    return [row.get("remark", "") for row in rows]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def nan(path: Path) -> None:
    save(path, np.full(SHAPE, np.nan, np.float32))


def activity(path: Path) -> None:
    save(path, np.full(SHAPE, 5000.0, np.float32))


def grey(path: Path) -> None:
    save(path, np.full(SHAPE, 120, np.uint8))


def elsewhere(path: Path) -> None:
    affine = np.diag([-6.0, -6.0, 8.0, 1.0])
    affine[0, 3] = 5000
    save(path, np.full(SHAPE, 0.5, np.float32), affine)


def four_axes(path: Path) -> None:
    save(path, np.zeros((2, *SHAPE), np.uint8))


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("CT", Path.unlink, "is not there"),
        ("CT", cut_off, "truncated"),
        ("CT", nan, "NaN or infinite"),
        ("CT", grey, "not HU"),
        ("SUV", Path.unlink, "is not there"),
        ("SUV", cut_off, "truncated"),
        ("SUV", nan, "NaN or infinite"),
        ("SUV", activity, "activity, not SUV"),
        ("SUV", elsewhere, "pet spans .* they do not meet"),
        ("SEG", Path.unlink, "is not there"),
        ("SEG", four_axes, "expected one 3D volume"),
        ("SEG", lambda path: save(path, np.zeros(SHAPE, np.uint8)), "holds no lesion"),
        ("SEG", lambda path: save(path, np.full(SHAPE, 0.5, np.float32)), "with fractions"),
        ("SEG", lambda path: save(path, np.full(SHAPE, -1, np.int16)), "runs from -1"),
    ],
)
def test_a_bad_file_is_named_and_the_other_study_goes_on(
    name: str,
    spoil: Callable[[Path], object],
    message: str,
    study: list[str],
    stage: list[str],
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    write_study(bad)
    spoil(bad / f"{name}.nii.gz")
    table = tmp_path / "list.csv"
    files = [f"{folder}CT.nii.gz,{folder}SUV.nii.gz,{folder}SEG.nii.gz" for folder in ("bad/", "")]
    table.write_text("\n".join(["image_path,image_path1,image_path2", *files]))
    many = ["--list", str(table), "--images", str(tmp_path), "--mode", "mask"]
    first, *rest = told(tmp_path / "out", *stage, *many)
    assert len(rest) == 3
    assert re.search(message, first), first
    assert "do not meet" in first or str(bad / f"{name}.nii.gz") in first


def test_boxes_at_the_border_and_beyond(study: list[str], stage: list[str], tmp_path: Path) -> None:
    boxes = [
        ("0", "90", "80", "20", "20", "20"),  # at the border of the image, beside the body
        ("-15", "90", "80", "40", "20", "20"),  # partly outside
        ("-90", "-90", "80", "9", "9", "9"),  # RAS for LPS
        ("90", "90", "80", "0.01", "0.01", "0.01"),
        ("nan", "90", "80", "9", "9", "9"),
        ("90", "90", "80", "9", "-9", "9"),
    ]
    chosen = [word for box in boxes for word in ("--box", *box)]
    found = told(tmp_path / "out", *study[:2], *stage, *chosen)
    assert found[0] == "its centre lies outside the body"
    assert found[1].startswith("its centre lies outside the image")
    assert "wholly outside the image; are x, y, z mm of the LPS world" in found[2]
    assert found[3] == ""
    assert "not in millimetres of a patient" in found[4] and "not above 0 mm" in found[5]
    rows, listed = outputs(tmp_path / "out")
    assert [bool(row["coarse_labels"]) for row in rows] == [True, True, False, True, False, False]
    assert ["places" in entry for entry in listed] == [True, True, False, True, False, False]


def test_lesions_that_the_pet_or_the_ct_does_not_show(
    study: list[str], stage: list[str], tmp_path: Path
) -> None:
    ct, pet, mask = study
    save(Path(pet), np.full((8, 30, 30), 0.5, np.float32))  # ends at 60 mm
    assert told(tmp_path / "out", ct, pet, *stage, *INSIDE, lost=False) == [
        "its centre lies outside the PET"
    ]
    save(Path(ct), np.full((8, 30, 30), -1000, np.int16) + np.eye(30, dtype=np.int16) * 1040)
    found = told(tmp_path / "out", ct, pet, mask, *stage)
    assert [("wholly outside the image" in remark) for remark in found] == [False, True, True]


def test_duplicates_and_empty_cells_of_a_list(
    study: list[str], stage: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "list.csv"
    many = [*stage, "--list", str(table), "--images", str(tmp_path)]
    box, header = "90,90,80,24,24,24", "image_path,image_path1,image_path2"
    whole, without = "CT.nii.gz,SUV.nii.gz,", "CT.nii.gz,,"
    rows = [f"{files},{box}" for files in (whole, whole, without, ",SUV.nii.gz,SEG.nii.gz")]
    table.write_text("\n".join([f"{header},x,y,z,width,height,depth", *rows]))
    found = told(tmp_path / "out", *many)
    assert found[:2] == [f"its box overlaps that of lesion {n} by more than half" for n in (2, 1)]
    assert found[2].startswith("image_path1 (pet) is empty")
    assert found[3].startswith("image_path (image) is empty")
    table.write_text("\n".join([header, *["CT.nii.gz,SUV.nii.gz,SEG.nii.gz"] * 2, whole]))
    with caplog.at_level(logging.WARNING):
        found = told(tmp_path / "out", *many, "--mode", "mask")
    assert len(found) == 4 and "2 rows of SEG.nii.gz: the first stands" in caplog.text
    assert found[3].startswith("image_path2 (lesion_mask) is empty")


def test_hundreds_of_components_of_one_value(
    study: list[str], stage: list[str], tmp_path: Path
) -> None:
    mask = np.zeros((40, 60, 60), np.uint8)
    mask[8:32:4, 12:48:6, 12:48:6] = 1
    path = save(tmp_path / "many.nii.gz", mask, np.diag([-3.0, -3.0, 4.0, 1.0]))
    found = told(tmp_path / "out", *study[:2], path, *stage, lost=False)
    assert found == ["a single voxel"] * 216


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "nowhere"], "--device nowhere cannot be used"),
        (["--fusion-threshold", "3"], "a probability"),
        (["--top-k", "-1"], "0 for all places"),
        (["--vocabulary", "none.json"], "no vocabulary that is shipped"),
    ],
)
def test_options_that_cannot_be(
    options: list[str], message: str, study: list[str], stage: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message):
        localise.main([*study, *stage, *options, "--out", str(tmp_path)])
