"""Damaged input of every kind through `prepare`: nothing crashes it, nothing is lost."""

import csv
import gzip
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom.uid import EnhancedSRStorage, RTStructureSetStorage, SegmentationStorage

from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.folder import Folder
from medvlp.data.preparation import prepare_dataset
from medvlp.data.quarantine import quarantine_file

from .conftest import raw_chest, write_table
from .readers.bad_inputs import (
    AFFINE,
    Build,
    Evil,
    array_file,
    bad_voxel,
    changed,
    chest,
    cut,
    dicom,
    dicom_object,
    file,
    link,
    metaimage,
    named,
    nifti,
    patched,
    sheared,
    streams,
    tensor,
    without_decoder,
)
from .readers.dicom_writer import voxels, write_series
from .readers.test_arrays import evil_npy, lying, npz
from .readers.test_dicom import set_all


class Case(NamedTuple):
    """One row: what is written, and what must be said of it."""

    name: str
    build: Build
    says: str
    prepared: bool = False
    cells: dict[str, object] = {}


GEOMETRY: dict[str, object] = {"spacing_mm": "3 1 1", "orientation": "SPL"}

CASES = [
    # NIfTI
    Case("empty_file", file("x.nii.gz", b""), "the file has 0 bytes"),
    Case("truncated_gzip", changed(nifti(), lambda d: d[: len(d) // 2]), "holds only"),
    Case("no_checksum", changed(nifti(), lambda d: d[:-8]), "ends before the checksum"),
    Case("damaged_gzip", changed(nifti(), lambda d: d[:90] + bytes(9) + d[99:]), "x.nii.gz"),
    Case("truncated_plain", changed(nifti(name="x.nii"), lambda d: d[:-99]), "is truncated or"),
    Case("ends_in_header", changed(nifti(name="x.nii"), lambda d: d[:99]), "inside the header"),
    Case("no_nifti", file("x.nii.gz", b"<html>503</html>" * 40), "not a NIfTI file"),
    Case("lying_size", patched(40, "<4h", 3, 30000, 30000, 30000), "the header claims 30000 x"),
    Case("negative_size", patched(40, "<4h", 3, 12, -10, 8), "axes of length"),
    Case("wrong_endian", patched(40, ">4h", 3, 12, 10, 8), "wrong byte order?"),
    Case(
        "bomb",
        changed(nifti(), lambda d: gzip.compress(gzip.decompress(d) + bytes(9**8))),
        "holds at least",
    ),
    Case("four_axes", nifti(np.zeros((4, 4, 4, 3), np.int16)), "expected one 3D volume"),
    Case("two_axes", nifti(np.zeros((4, 4), np.int16)), "expected one 3D volume"),
    Case("affine_nan", patched(280, "<f", float("nan"), name="x.nii.gz"), "has non-finite"),
    Case("affine_zero", patched(280, "<4f", 0, 0, 0, 0), "the affine is singular"),
    Case("affine_sheared", nifti(affine=sheared()), "the affine is sheared"),
    Case("voxel_nan", nifti(bad_voxel(float("nan"))), "1 of 960 voxels are NaN or infinite"),
    Case("voxel_inf", nifti(bad_voxel(float("-inf"))), "1 of 960 voxels are NaN or infinite"),
    Case("complex", nifti(np.zeros((4, 4, 4), np.complex64)), "one integer or real number"),
    Case("unknown_type", patched(70, "<h", 999), "unknown voxel type"),
    Case("voxels_elsewhere", patched(344, "<4s", b"ni1\0"), "voxels in a separate file"),
    Case("voxels_in_header", patched(108, "<f", 8.0), "inside or before the header"),
    Case("slope_infinite", patched(112, "<2f", float("inf"), 0.0), "are not finite"),
    Case("never_rescaled", nifti(raw_chest(0)), "the rescale intercept is missing"),
    Case("rescaled_twice", patched(112, "<2f", 1.0, -1024.0), "the stored numbers are HU already"),
    # DICOM
    Case("slice_missing", dicom(lambda f: (f / "s003.dcm").unlink()), "1 slices are missing"),
    Case(
        "uneven",
        dicom(change=set_all(ImagePositionPatient=lambda i: [0, 0, i * 2 + (i == 2)])),
        "uneven spacing",
    ),
    Case(
        "two_phases",
        dicom(change=set_all(ImagePositionPatient=lambda i: [0, 0, i // 2])),
        "lie at the place of another one",
    ),
    Case("altered_copy", dicom(change=set_all(SOPInstanceUID="1.9")), "same SOP Instance UID"),
    Case(
        "mixed_orientation",
        dicom(change=set_all(ImageOrientationPatient=lambda i: [1, 0, 0, 0, i != 1, i == 1])),
        "mixed orientation: 1 of 5",
    ),
    Case(
        "mixed_size",
        dicom(lambda f: write_series(f, voxels(1, 4, 4), prefix="t")),
        "images of mixed size",
    ),
    Case("tilted", dicom(step=(0.0, 0.9, 2.5)), "gantry tilt"),
    Case("no_decoder", dicom(without_decoder, compress=True), "no decoder for the transfer"),
    Case("truncated_slice", dicom(lambda f: cut(f / "s002.dcm", 40)), "truncated pixel data"),
    Case("one_slice", dicom(array=voxels(1)), "only 1 slice"),
    Case("colour", dicom(change=set_all(SamplesPerPixel=3)), "a colour image"),
    Case("no_position", dicom(change=set_all(ImagePositionPatient=None)), "is missing"),
    Case("slopes_differ", dicom(change=set_all(RescaleSlope=lambda i: 1 + i)), "different rules"),
    Case("an_mr", dicom(change=set_all(Modality="MR")), "the header says MR, the data set CT"),
    Case("no_dicom", dicom(lambda f: (f / "x.dcm").write_bytes(b"?" * 200)), "not a DICOM file"),
    Case("empty_slice", dicom(lambda f: (f / "x").touch()), "0 bytes"),
    Case("damaged_slice", dicom(lambda f: (f / "x").write_bytes(bytes(128) + b"DICM")), "damaged"),
    Case("back_link", dicom(lambda f: (f / "a").symlink_to(f)), "leads back to a folder above"),
    Case("dead_link", dicom(lambda f: (f / "a").symlink_to(f / "b")), "leads nowhere"),
    Case("segmentation", dicom_object(SegmentationStorage, "SEG"), "SEG, segmentation"),
    Case("contours", dicom_object(RTStructureSetStorage, "RTSTRUCT"), "set of contours"),
    Case("dose_report", dicom_object(EnhancedSRStorage, "SR"), "dose report"),
    Case("text_folder", lambda f: file("read.me", b"hello")(f).parent, "no DICOM image"),
    Case("empty_folder", lambda f: f, "an empty folder"),
    # bare arrays
    Case("object_npz", file("x.npz", npz(evil_npy())), "never loaded: it can run code"),
    Case("lying_npz", file("x.npz", npz(lying(b"(30000, 30000, 9000)"))), "than the file can hold"),
    Case("pickle_with_code", tensor(Evil()), "be loaded safely"),
    Case("dictionary", tensor({"image": torch.zeros(3, 3, 3)}), "expected one tensor"),
    Case("expanded", tensor(torch.zeros(1, 1, 1).expand(900, 900, 900)), "fewer numbers"),
    Case("no_geometry", array_file(chest()), "must state spacing_mm and orientation"),
    Case("flat_array", array_file(chest()[0]), "expected one 3D volume", cells=GEOMETRY),
    # NRRD, MetaImage
    Case(
        "nrrd_points_out",
        metaimage("y.nhdr", "data file: y.raw", "data file: ../x.raw"),
        "outside its folder",
    ),
    Case(
        "mhd_points_out",
        metaimage("y.mhd", "DataFile = y.raw", "DataFile = /etc/hosts"),
        "outside its folder",
    ),
    Case("mha_lies", metaimage("y.mha", "DimSize = 8 10 12", "DimSize = 8 10 9999"), "than y.mha"),
    # the table
    Case("points_up", named(Path("../x.nii")), "the path leads out of"),
    Case("absolute", named(Path("/etc/passwd")), "the path leads out of"),
    Case("link_out", link(lambda folder: Path("/etc/hosts")), "the path leads out of"),
    Case("link_loop", link(lambda folder: folder / "x.nii.gz"), "cannot be followed"),
    Case("gone", named(Path("gone/x.nii")), "but not there"),
    Case("unknown_kind", file("x.docx", b"PK\3\4"), "no reader for this kind of file"),
    Case("two_spacings", nifti(), "spacing_mm", cells={"spacing_mm": "3 1"}),
    Case("odd_letters", nifti(), "expected three letters", cells={"orientation": "SPX"}),
    # told, and prepared all the same
    Case("label_typo", nifti(), "'yse', expected 0, 1 or empty", True, {"label": "yse"}),
    Case("empty_report", nifti(), "the report is empty", True, {"report": " "}),
    Case("copy", dicom(lambda f: shutil.copy(f / "s001.dcm", f / "copy.dcm")), "copies", True),
    Case("spaces and ümläüts 肺", nifti(name="so so ß.nii.gz"), "", True),
    Case("big_endian", nifti(chest().astype(">i2")), "", True),
    Case("several_streams", changed(nifti(), streams), "", True),
    Case("array_with_geometry", array_file(chest()), "", True, GEOMETRY),
    Case("good_nifti", nifti(), "", True),
    Case("good_dicom", dicom(), "", True),
]


def write_all(root: Path) -> tuple[Path, dict[str, str]]:
    """Write every case into a folder of its own and one table with a byte order mark."""
    rows: list[dict[str, object]] = []
    for case in CASES:
        folder = root / case.name
        folder.mkdir(parents=True)
        path = case.build(folder)
        inside = path.is_relative_to(root)
        row = {"study_id": case.name, "path": path.relative_to(root) if inside else path}
        rest = {"report": "Clear.", "label": 1, "spacing_mm": "", "orientation": ""}
        rows.append({**row, **rest, **case.cells})
    rows.append({**rows[-1], "path": rows[-2]["path"], "report": "Another."})  # the same study id
    table = root.parent / "studies.csv"
    write_table(table, rows)
    table.write_text(table.read_text("utf-8"), encoding="utf-8-sig")
    return table, {str(row["study_id"]): str(row["path"]) for row in rows[:-1]}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], dict[str, str]]:
    """Prepare everything at once; give the prepared studies and all reasons of each study."""
    root = tmp_path_factory.mktemp("bad") / "root"
    table, paths = write_all(root)
    source = Folder(
        str(table), str(root), text_columns={"report": "report"}, label_columns=["label"]
    )
    recipe = CTRecipe((6, 8, 8), (3.0, 1.0, 1.0), window_hu=(-1150.0, 350.0), mean=0.449, std=0.226)
    with pytest.warns(UserWarning, match="1 copies of slices"):
        manifest = prepare_dataset(
            source,
            recipe,
            cache_dir=root.parent / "cache",
            engine=LocalEngine(0),
            max_quarantine_share=1.0,
        )
    reasons: dict[str, str] = {}
    with quarantine_file(manifest.folder).open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            studies = [s for s, p in paths.items() if row["path"] in (s, p, str(root / p))]
            assert studies, f"{row['path']} belongs to no study"
            for study in studies:
                reasons[study] = f"{reasons.get(study, '')}\n{row['reason']}"
    assert (
        sum(manifest.skips.values())
        == len(quarantine_file(manifest.folder).read_text("utf-8").splitlines()) - 1
    )
    return {manifest[index]["study_id"] for index in range(len(manifest))}, reasons


def test_the_table_is_long_enough_and_its_names_are_unique() -> None:
    assert sum(not case.prepared for case in CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_input_is_prepared_or_told_of(
    outcome: tuple[set[str], dict[str, str]], case: Case
) -> None:
    prepared, reasons = outcome
    said = reasons.get(case.name, "")
    assert (case.name in prepared) == case.prepared, said
    assert case.says in said
    if case.prepared:
        assert bool(case.says or case.name == "good_dicom") == bool(said), said


def test_a_repeated_study_id_is_one_study_and_its_contradiction_is_told(
    outcome: tuple[set[str], dict[str, str]],
) -> None:
    assert "its rows disagree on 'report'" in outcome[1]["good_dicom"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty; columns expected: study_id, path"),
        (b"study_id,path,label\n", "has a header but no rows"),
        (b"study_id,label\n1,1\n", "has no column 'path'"),
        (b"study_id,path,lable\n1,a.nii,1\n", "has no column 'label'; did you mean 'lable'"),
        (b"study_id,path,path,label\n1,a,b,1\n", "the column 'path' more than once"),
        (b"study_id,path,label\n1,a.nii,1,2\n", "line 2: the row has more or fewer cells"),
        (b"study_id,path,label\n1,a.nii\n", "line 2: the row has more or fewer cells"),
        ("study_id,path,label\n1,ä.nii,1\n".encode("latin-1"), "not a readable UTF-8 CSV"),
        (b"study_id,path,label\n1,a\0.nii,1\n", "has no study|leads out of|not a readable"),
        (b"study_id,path,label,split\n1,a.nii,1,holdout\n", "split is 'holdout', expected one of"),
        (b"study_id,path,label,split\n1,a.nii,1,trian\n", "did you mean 'train'"),
        (b"study_id,path,label\n,a.nii,1\n", "1 rows without a study_id"),
        (b"study_id,path,label\n1,,1\n", "a study without a volume"),
        (b"study_id,path,label\n1,../../a.nii,1\n", "the path leads out of"),
        (b"study_id;path;label\n1;a.nii;1\n", "has no column 'study_id'"),
    ],
)
def test_each_damaged_table_stops_before_any_work(
    tmp_path: Path, recipe: CTRecipe, text: bytes, message: str
) -> None:
    nib.save(nib.Nifti1Image(chest(), AFFINE), tmp_path / "a.nii")
    (tmp_path / "studies.csv").write_bytes(text)
    source = Folder(str(tmp_path / "studies.csv"), str(tmp_path), label_columns=["label"])
    with pytest.raises(ValueError, match=message):
        prepare_dataset(source, recipe, cache_dir=tmp_path / "cache", engine=LocalEngine(0))
