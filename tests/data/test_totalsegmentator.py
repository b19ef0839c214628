"""Organ masks from TotalSegmentator's outputs, real ones and made-up ones, and by a stand-in."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.engine import LocalEngine
from medvlp.data.folder import Folder
from medvlp.data.imported_masks import ImportedMasks
from medvlp.data.organ_masks import MadeMask, OrganMasks, WithOrganMasks, attach_masks
from medvlp.data.readers.registry import read
from medvlp.data.records import ScanRecord
from medvlp.data.totalsegmentator import MadeByTotalSegmentator
from medvlp.data.totalsegmentator_classes import class_names, ids_of, refuse_v1

SHARED = Path(os.environ.get("MEDVLP_SHARED", Path(__file__).parents[2].parent / "shared"))
REAL = SHARED / "data" / "ct_body_totalseg"
AFFINE = np.diag([-1.0, -1.5, 2.0, 1.0])
V2 = {name: number for number, name in enumerate(class_names(), 1)}
V1 = {name: number for number, name in enumerate(class_names("total_v1"), 1)}


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> ScanRecord:
    """Air on the left, tissue on the right."""
    values = np.full((6, 8, 10), 40, np.int16)
    values[:, :, :5] = -850
    return ScanRecord("one/scan", save(tmp_path / "raw" / "one" / "scan.nii.gz", values))


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def halves(left: int, right: int) -> np.ndarray:
    labels = np.zeros((6, 8, 10), np.uint8)
    labels[1:5, 1:7, 1:5], labels[1:5, 1:7, 5:9] = left, right
    return labels


def make(masks: OrganMasks, scan: ScanRecord, tmp_path: Path) -> tuple[MadeMask, np.ndarray]:
    made = masks.make(scan, tmp_path / "made.nii.gz")
    assert made.path is not None
    return made, read(made.path).array


def test_the_tables_are_those_of_the_published_repository() -> None:
    assert [len(class_names(task)) for task in ("total", "total_mr", "total_v1")] == [117, 50, 104]
    path = REAL / "labels.json"
    if path.is_file():
        published = json.loads(path.read_text())
        for task in ("total", "total_mr"):
            assert list(class_names(task)) == list(published[task].values())
            assert list(published[task]) == [str(n + 1) for n in range(len(published[task]))]


def test_a_file_of_right_ids_stays_where_it_is(
    scan: ScanRecord, masks: Path, tmp_path: Path
) -> None:
    path = save(masks / "scan.nii.gz", halves(V2["lung_upper_lobe_left"], V2["heart"]))
    made, _ = make(ImportedMasks(str(masks)), scan, tmp_path)
    assert made == MadeMask(path) and not (tmp_path / "made.nii.gz").exists()


def test_ids_of_version_1_are_noticed_by_their_hounsfield_units(
    scan: ScanRecord, masks: Path, tmp_path: Path
) -> None:
    save(masks / "scan.nii.gz", halves(V1["lung_lower_lobe_right"], V1["pancreas"]))
    with pytest.raises(ValueError, match=r"id 10 have 40 HU .* but pancreas .*version=v1"):
        ImportedMasks(str(masks)).make(scan, tmp_path / "made.nii.gz")
    _, labels = make(ImportedMasks(str(masks), version="v1"), scan, tmp_path)
    expected = halves(V2["lung_lower_lobe_right"], V2["pancreas"])
    np.testing.assert_array_equal(labels, expected)


def test_the_chambers_of_version_1_are_the_heart_of_version_2() -> None:
    numbers, notes = ids_of(class_names("total_v1"), "total")
    assert numbers["heart_atrium_left"] == numbers["heart_myocardium"] == V2["heart"]
    assert "face" not in numbers and "pulmonary_artery" not in numbers and not notes


def test_ids_beyond_the_classes_are_refused(scan: ScanRecord, masks: Path, tmp_path: Path) -> None:
    save(masks / "scan.nii.gz", halves(1, 130))
    with pytest.raises(ValueError, match="has the id 130, and there are 117 classes"):
        ImportedMasks(str(masks)).make(scan, tmp_path / "made.nii.gz")


def test_what_is_no_mask_is_refused(scan: ScanRecord, masks: Path, tmp_path: Path) -> None:
    save(masks / "scan.nii.gz", halves(1, 2).astype(np.float32) * 0.5)
    with pytest.raises(ValueError, match=r"is no mask: it holds 0 to 1"):
        ImportedMasks(str(masks)).make(scan, tmp_path / "made.nii.gz")


def test_names_in_the_header_decide(scan: ScanRecord, masks: Path, tmp_path: Path) -> None:
    image = nib.Nifti1Image(halves(1, 2).transpose(2, 1, 0), AFFINE)
    table = (
        '<Label Key="1" Red="0"><![CDATA[aorta]]></Label><Label Key="2"><![CDATA[livr]]></Label>'
    )
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, table.encode()))
    nib.save(image, masks / "scan.nii.gz")
    made, labels = make(ImportedMasks(str(masks)), scan, tmp_path)
    np.testing.assert_array_equal(labels, halves(V2["aorta"], 0))
    assert made.notes == ("no class of TotalSegmentator, left out: 'livr'; did you mean 'liver'?",)


def test_a_folder_of_classes_becomes_one_file(
    scan: ScanRecord, masks: Path, tmp_path: Path
) -> None:
    folder = masks / "one" / "segmentations"
    save(folder / "heart_ventricle_left.nii.gz", halves(0, 1))
    save(folder / "lung_upper_lobe_left.nii.gz", halves(1, 0))
    made, labels = make(ImportedMasks(str(masks)), scan, tmp_path)
    np.testing.assert_array_equal(labels, halves(V2["lung_upper_lobe_left"], V2["heart"]))
    assert made.path is not None
    np.testing.assert_allclose(read(made.path).affine, AFFINE)
    save(folder / "aorta.nii.gz", halves(0, 1), np.diag([-1.0, -1.5, 2.5, 1.0]))
    with pytest.raises(ValueError, match="another grid than the other classes"):
        ImportedMasks(str(masks)).make(scan, tmp_path / "made.nii.gz")


def test_a_mask_takes_the_geometry_that_overrules_the_header(
    scan: ScanRecord, masks: Path, tmp_path: Path
) -> None:
    save(masks / "scan.nii.gz", halves(1, 2))
    stated = ScanRecord(scan.scan_id, scan.path, orientation="SPR", spacing_mm=(3.0, 1.5, 1.0))
    made, labels = make(ImportedMasks(str(masks)), stated, tmp_path)
    assert made.path is not None
    mask = read(made.path)
    assert mask.orientation == "SPR" and mask.spacing_mm == (3.0, 1.5, 1.0)
    np.testing.assert_array_equal(labels, halves(1, 2))
    save(masks / "scan.nii.gz", halves(1, 2), np.eye(4))
    with pytest.raises(ValueError, match="not on its grid"):
        ImportedMasks(str(masks)).make(stated, tmp_path / "made.nii.gz")


def test_a_scan_is_never_its_own_mask_and_nothing_outside_is_read(
    scan: ScanRecord, tmp_path: Path
) -> None:
    assert ImportedMasks(str(tmp_path / "raw")).find(scan) is None
    outside = ImportedMasks(str(tmp_path / "raw" / "one"), patterns=["../../{stem}.nii.gz"])
    save(tmp_path / "scan.nii.gz", halves(1, 2))
    assert outside.find(scan) is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda folder: ImportedMasks(None), "masks_dir=FOLDER"),
        (lambda folder: ImportedMasks(str(folder / "absent")), "is not a folder"),
        (lambda folder: ImportedMasks(str(folder), patterns=["{name}"]), "expected names of stem"),
    ],
)
def test_senseless_settings_are_refused(
    build: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build(tmp_path)


@pytest.fixture
def source(scan: ScanRecord, tmp_path: Path) -> Folder:
    save(tmp_path / "raw" / "two.nii.gz", np.zeros((6, 8, 10), np.int16))
    table = tmp_path / "studies.csv"
    table.write_text("study_id,path\na,one/scan.nii.gz\nb,two.nii.gz\n")
    return Folder(str(table), str(tmp_path / "raw"))


def attach(source: Folder, masks: OrganMasks, tmp_path: Path) -> WithOrganMasks:
    return attach_masks(source, masks, cache_dir=tmp_path / "cache", engine=LocalEngine(1))


def test_all_scans_of_a_data_set_get_their_masks(
    source: Folder, masks: Path, tmp_path: Path
) -> None:
    folder = masks / "scan"
    save(folder / "heart.nii.gz", halves(0, 1))
    for _ in range(2):
        attached = attach(source, ImportedMasks(str(masks)), tmp_path)
        first, second = attached.studies()
        mask = first.scans[0].companions["anatomy_mask"]
        assert mask.is_relative_to(tmp_path / "cache") and not second.scans[0].companions
        (skip,) = attached.skips
        assert skip.id.endswith("two.nii.gz") and "no organ mask in" in skip.reason
        assert attached.describe() == source.describe()
        written = mask.stat().st_mtime_ns
    assert mask.stat().st_mtime_ns == written
    save(folder / "aorta.nii.gz", halves(1, 0))  # an output that came later
    (first, _) = attach(source, ImportedMasks(str(masks)), tmp_path).studies()
    labels = read(first.scans[0].companions["anatomy_mask"]).array
    np.testing.assert_array_equal(labels, halves(V2["aorta"], V2["heart"]))


def test_no_mask_at_all_is_an_error(source: Folder, masks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of 2 scans has a sound organ mask"):
        attach(source, ImportedMasks(str(masks)), tmp_path)


def test_totalsegmentator_is_told_how_to_install() -> None:
    with pytest.raises(ImportError, match="pip install TotalSegmentator"):
        MadeByTotalSegmentator()


def test_totalsegmentator_gets_hounsfield_units_and_geometry(
    source: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def segment(image: nib.Nifti1Image, output: None, **options: Any) -> nib.Nifti1Image:
        calls.append(options)
        lung = np.asarray(image.dataobj) < -500
        return nib.Nifti1Image((lung * V2["lung_upper_lobe_left"]).astype(np.uint8), image.affine)

    api, config = ModuleType("totalsegmentator.python_api"), ModuleType("totalsegmentator.config")
    settings: dict[str, Any] = {}
    vars(api)["totalsegmentator"] = segment
    vars(config).update(setup_totalseg=dict, set_config_key=settings.__setitem__)
    for module in (ModuleType("totalsegmentator"), api, config):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    first, _ = attach(source, MadeByTotalSegmentator(fast=True), tmp_path).studies()
    mask = read(first.scans[0].companions["anatomy_mask"])
    assert (mask.array[:, :, :5] == V2["lung_upper_lobe_left"]).all() and not mask.array[
        ..., 5:
    ].any()
    np.testing.assert_allclose(mask.affine, AFFINE)
    assert settings == {"send_usage_stats": False}
    assert calls[0] == {"ml": True, "task": "total", "fast": True, "device": "gpu", "quiet": True}
    attach(source, MadeByTotalSegmentator(fast=True), tmp_path)
    assert len(calls) == 2


def test_real_outputs() -> None:
    if not REAL.is_dir():
        pytest.skip(f"no real masks at {SHARED}: set MEDVLP_SHARED")
    pairs = {"example_ct": "example_seg_fast_force_split", "example_ct_sm": "example_seg"}
    for image, mask in pairs.items():
        masks = ImportedMasks(str(REAL), patterns=[f"{mask}.nii.gz"])
        record = ScanRecord(image, REAL / f"{image}.nii.gz")
        assert masks.make(record, Path("unused")) == MadeMask(REAL / f"{mask}.nii.gz")
        labels, values = read(REAL / f"{mask}.nii.gz").array, read(record.path).array
        refuse_v1(labels, values)
    wrong = np.where(labels == V2["liver"], V2["lung_upper_lobe_left"], labels)
    with pytest.raises(ValueError, match=r"version 1"):
        refuse_v1(wrong, values)
    mr = ImportedMasks(str(REAL), patterns=["example_seg_mr.nii.gz"], task="total_mr")
    record = ScanRecord("mr", REAL / "example_mr_sm.nii.gz", modality="MR")
    assert mr.make(record, Path("unused")) == MadeMask(REAL / "example_seg_mr.nii.gz")
