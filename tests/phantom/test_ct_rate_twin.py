import csv
import gzip
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.ct_rate import CTRate
from medvlp.phantom.canvas import organ_id
from medvlp.phantom.ct_rate import write_ct_rate_twin
from medvlp.phantom.ct_rate_plan import plan_sessions
from medvlp.phantom.ct_rate_source import PhantomCTRate
from medvlp.phantom.finding import LABELS, finding_id
from medvlp.phantom.reports import prompt
from medvlp.phantom.twin_parameters import TwinParameters
from tests.phantom.twin_files import content

SHAPE = (24, 28, 28)
WANTED = TwinParameters(num_train=10, num_test=4, seed=3, shape=SHAPE, hard_cases=True)
SMALL = TwinParameters(num_train=3, num_test=1, seed=3, shape=SHAPE)
TABLES = (
    "dataset/metadata/train_metadata.csv",
    "dataset/metadata/validation_metadata.csv",
    "dataset/radiology_text_reports/train_reports.csv",
    "dataset/radiology_text_reports/validation_reports.csv",
    "dataset/multi_abnormality_labels/train_predicted_labels.csv",
    "dataset/multi_abnormality_labels/valid_predicted_labels.csv",
)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return write_ct_rate_twin(tmp_path_factory.mktemp("twin"), WANTED)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def volumes(root):
    return {path.name: path for path in (root / "dataset").rglob("*.nii.gz")}


def test_files_lie_where_ct_rate_has_them(twin):
    assert (twin / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz").is_file()
    assert (twin / "dataset/valid/valid_1/valid_1_a/valid_1_a_1.nii.gz").is_file()
    listed = [row["VolumeName"] for table in TABLES[:2] for row in rows(twin / table)]
    assert sorted(listed) == sorted(volumes(twin))
    assert sorted(path.name for path in (twin / "dataset").iterdir()) == [
        "metadata",
        "multi_abnormality_labels",
        "radiology_text_reports",
        "train",
        "valid",
    ]


def test_tables_have_the_published_columns(twin):
    metadata = rows(twin / TABLES[0])[0]
    assert len(metadata) == 44
    assert list(metadata)[-7:] == [
        "XYSpacing",
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
        "NumberofSlices",
        "ZSpacing",
        "StudyDate",
    ]
    assert list(rows(twin / TABLES[2])[0]) == [
        "VolumeName",
        "ClinicalInformation_EN",
        "Technique_EN",
        "Findings_EN",
        "Impressions_EN",
    ]
    assert list(rows(twin / TABLES[4])[0]) == ["VolumeName", *LABELS]


def test_raw_numbers_need_the_table_and_give_hounsfield_units(twin):
    files = volumes(twin)
    intercepts = set()
    for row in rows(twin / TABLES[1]):
        image = nib.load(files[row["VolumeName"]])
        assert image.get_data_dtype() == np.int16
        raw = np.asarray(image.dataobj)
        assert raw.min() >= 0
        hu = raw + int(row["RescaleIntercept"])
        organs = np.asarray(nib.load(twin / "ground_truth/organs" / row["VolumeName"]).dataobj)
        assert 30 < np.median(hu[organs == organ_id("liver")]) < 80
        assert np.median(hu[organs == 0]) < -900
        intercepts.add(row["RescaleIntercept"])
        assert (str(raw.shape[2]), str(raw.shape[0])) == (row["NumberofSlices"], row["Columns"])
        spacing = [*json.loads(row["XYSpacing"]), float(row["ZSpacing"])]
        np.testing.assert_allclose(image.header.get_zooms(), spacing, rtol=1e-5)
    assert intercepts <= {"-1024", "-8192"}


def test_headers_are_trivial_and_say_left_posterior_superior(twin):
    for path in volumes(twin).values():
        with gzip.open(path) as file:
            header = nib.Nifti1Header.from_fileobj(file)
        assert header.get_slope_inter() == (1.0, 0.0)
        assert nib.orientations.aff2axcodes(header.get_best_affine()) == ("L", "P", "S")


def test_the_liver_of_a_file_is_on_the_right_of_the_world(twin):
    image = nib.load(twin / "ground_truth/organs/train_1_a_1.nii.gz")
    organs = np.asarray(image.dataobj)
    liver, heart = (
        image.affine @ [*np.argwhere(organs == organ_id(name)).mean(0), 1]
        for name in ("liver", "heart")
    )
    assert heart[0] < 0 < liver[0]


def test_labels_reports_and_masks_tell_the_same_story(twin):
    labels = {row["VolumeName"]: row for row in rows(twin / TABLES[5])}
    for row in rows(twin / TABLES[3]):
        for name in LABELS:
            present = labels[row["VolumeName"]][name] == "1"
            assert (prompt(name, True) in row["Impressions_EN"].split(". ") or present) is present
        mask = nib.load(twin / "ground_truth/findings" / row["VolumeName"]).dataobj
        marked = set(np.unique(np.asarray(mask)).tolist()) - {0}
        stated = {finding_id(n) for n in LABELS if labels[row["VolumeName"]][n] == "1"}
        assert marked <= stated


def test_ground_truth_states_places_in_the_world_of_the_file(twin):
    studies = json.loads((twin / "ground_truth/studies.json").read_text())
    checked = 0
    for session in studies.values():
        for finding in session["findings"]:
            if finding["name"] in {"Consolidation", "Lung opacity"}:
                image = nib.load(twin / "ground_truth/findings" / session["volumes"][0])
                found = np.argwhere(np.asarray(image.dataobj) == finding["id"])
                if len(found) > 30:
                    middle = image.affine @ [*found.mean(0), 1]
                    assert np.abs(middle[:3] - finding["center_ras_mm"]).max() < 25
                    checked += 1
    assert checked
    ids = json.loads((twin / "ground_truth/labels.json").read_text())
    assert ids["findings"]["1"] == "Medical material"
    assert ids["organs"][str(organ_id("heart"))] == "heart"


def test_hard_cases_are_listed_and_hard(twin):
    record = json.loads((twin / "twin.json").read_text())
    cases = {case["kind"]: case["session"] for case in record["hard_cases"]}
    files = volumes(twin)
    assert sum(name.startswith(f"{cases['several scans']}_") for name in files) == 4
    with pytest.raises(EOFError), gzip.open(files[f"{cases['corrupt file']}_1.nii.gz"]) as file:
        file.read()
    zooms = nib.load(files[f"{cases['odd spacing']}_1.nii.gz"]).header.get_zooms()
    assert zooms[2] > 1.8 * zooms[0]
    twins = [case for case in record["hard_cases"] if case["kind"].startswith("mirrored")]
    assert [case["kind"].split()[-1] for case in twins] == ["left", "right"] * 2
    table = {row["VolumeName"]: row for row in rows(twin / TABLES[5])}
    first, second = (table[f"{case['session']}_1.nii.gz"] for case in twins[:2])
    assert [first[name] for name in LABELS] == [second[name] for name in LABELS]


def test_a_larger_twin_begins_with_the_smaller_one():
    def sessions(count):
        return plan_sessions(TwinParameters(count, 0, 7, SHAPE))

    assert sessions(60)[:25] == sessions(25)
    assert {session.letter for session in sessions(60)} >= {"a", "b"}


def test_workers_write_what_one_process_writes(tmp_path):
    first = write_ct_rate_twin(tmp_path / "here", SMALL)
    second = write_ct_rate_twin(tmp_path / "workers", SMALL, num_workers=1)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for file in files:
        assert content(first / file) == content(second / file), file


def test_a_finished_twin_is_left_alone_and_a_broken_off_one_is_completed(tmp_path):
    write_ct_rate_twin(tmp_path, SMALL)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write_ct_rate_twin(tmp_path, SMALL)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    record = json.loads((tmp_path / "twin.json").read_text())
    (tmp_path / "twin.json").write_text(json.dumps({**record, "finished": False}))
    lost = tmp_path / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz"
    before = content(lost)
    lost.unlink()
    write_ct_rate_twin(tmp_path, SMALL)
    assert content(lost) == before
    kept = tmp_path / "dataset/valid/valid_1/valid_1_a/valid_1_a_1.nii.gz"
    assert kept.stat().st_mtime_ns == times[kept]


def test_other_parameters_in_the_same_folder_are_refused(twin):
    with pytest.raises(ValueError, match="num_train: found 10, asked for 11"):
        write_ct_rate_twin(twin, replace(WANTED, num_train=11))


def test_a_real_data_set_is_never_written_into(tmp_path):
    (tmp_path / "dataset").mkdir()
    with pytest.raises(ValueError, match="not a twin"):
        write_ct_rate_twin(tmp_path, WANTED)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_train": 0}, "at least one"), ({"shape": (8, 64, 64)}, "too small")],
)
def test_senseless_sizes_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_ct_rate_twin(tmp_path, replace(SMALL, **change))


def test_the_ct_rate_source_reads_the_twin(twin):
    source = CTRate(str(twin))
    studies = list(source.studies())
    assert not source.skips
    assert sum(study.split == "train" for study in studies) == 14
    assert sum(study.split == "test" for study in studies) == 8
    study = studies[0]
    assert study.texts["findings"]
    assert study.texts["impression"]
    assert set(study.labels.values()) <= {0, 1}


def test_the_phantom_source_writes_itself(tmp_path):
    source = PhantomCTRate(
        str(tmp_path / "new"), num_train=2, num_valid=1, seed=1, shape=SHAPE, num_workers=0
    )
    source.materialise()
    assert len(list(source.studies())) == 3
    assert source.describe()["seed"] == 1
