import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from medvlp import config
from medvlp.data.cq500 import LABEL_NAMES
from medvlp.data.engine import LocalEngine
from medvlp.data.manifest import Manifest
from medvlp.data.preparation import prepare_dataset
from medvlp.data.read_scan import read_scan
from medvlp.data.records import StudySource
from medvlp.data.rsna import RSNA
from medvlp.data.scan import reorient
from medvlp.phantom.cq500 import PhantomCQ500, write_cq500_twin
from medvlp.phantom.head_canvas import finding_id
from medvlp.phantom.rsna import PhantomRSNA, write_rsna_twin
from medvlp.phantom.twin_parameters import TwinParameters

pytestmark = pytest.mark.filterwarnings("ignore:.*copies of slices", "ignore:.*shifted straight")
SIZES = {"num_train": 5, "num_test": 1, "seed": 1, "shape": (32, 24, 24)}
WANTED = TwinParameters(**SIZES, hard_cases=True)


def prepared(source: StudySource, folder: Path) -> tuple[Manifest, str]:
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        tree = compose(overrides=["+data/recipe@recipe=phantom_head_ct"])
    manifest = prepare_dataset(
        source,
        instantiate(tree.recipe, _convert_="all"),
        cache_dir=folder,
        engine=LocalEngine(0),
        max_quarantine_share=0.5,
    )
    return manifest, (manifest.folder / "quarantine.csv").read_text(encoding="utf-8")


def corrections(manifest: Manifest, study_id: str) -> list[str]:
    """Give the degrees of gantry tilt that were corrected in a study."""
    studies = (manifest[index] for index in range(len(manifest)))
    scans = next(study["scans"] for study in studies if study["study_id"] == study_id)
    told = [sentence for scan in scans for sentence in scan["corrections"]]
    return [sentence.split(" degrees")[0].split()[-1] for sentence in told]


def cases(root: Path) -> dict[str, str]:
    hard = json.loads((root / "twin.json").read_text())["hard_cases"]
    return {case["kind"]: case["study"] for case in hard}


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rsna_twin(tmp_path_factory.mktemp("rsna"), WANTED)


@pytest.fixture(scope="module")
def cq500(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cq500_twin(tmp_path_factory.mktemp("cq500"), WANTED)


def test_rsna_slices_lie_loose_with_six_rows_each(rsna: Path) -> None:
    files = {path.stem for path in (rsna / "stage_2_train").iterdir()}
    with (rsna / "stage_2_train.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ID", "Label"]
    named = [row[0].rpartition("_") for row in rows[1:]]
    assert {name for name, _, _ in named} == files
    assert len(named) == 6 * len(files) + 6  # one slice stands there twice
    assert {kind for _, _, kind in named[:6]} == {
        "epidural",
        "intraparenchymal",
        "intraventricular",
        "subarachnoid",
        "subdural",
        "any",
    }


def test_rsna_headers_say_no_more_than_the_real_ones(rsna: Path) -> None:
    from pydicom import config as pydicom_config
    from pydicom import dcmread

    with pydicom_config.disable_value_validation():
        header = dcmread(min((rsna / "stage_2_train").iterdir()))
        keywords = {element.keyword for element in header}
        uid = str(header.StudyInstanceUID)
    assert uid.startswith("ID_") and "InstanceNumber" not in keywords
    assert not keywords & {"PatientName", "SliceThickness", "SeriesDescription"}


def test_rsna_is_read_back_with_the_painted_labels(rsna: Path) -> None:
    source = PhantomRSNA(str(rsna), **SIZES)
    studies = {study.study_id: study for study in source.studies()}
    truth = json.loads((rsna / "ground_truth/studies.json").read_text())
    hard = cases(rsna)
    assert set(studies) == set(truth) - {hard["unsigned header"]}
    for name, study in studies.items():
        kinds = {finding["kind"].capitalize() for finding in truth[name]["findings"]}
        assert {label for label, value in study.labels.items() if value == 1} == kinds | (
            {"Any"} if kinds else set()
        )
        assert study.split == truth[name]["split"]


def test_rsna_is_prepared_and_the_hard_cases_are_told(rsna: Path, tmp_path: Path) -> None:
    manifest, quarantine = prepared(PhantomRSNA(str(rsna), **SIZES), tmp_path)
    kept = {manifest[index]["study_id"] for index in range(len(manifest))}
    hard = cases(rsna)
    assert hard["repeated rows"] in kept
    for kind in ("missing slice", "corrupt file", "unsigned header"):
        assert hard[kind] not in kept
    for reason in ("slices are missing", "truncated pixel data", "calls unsigned"):
        assert reason in quarantine
    assert corrections(manifest, hard["gantry tilt"]) == ["16.0"]
    scan = manifest[0]["scans"][0]
    assert scan["modality"] == "CT" and 5.0 <= scan["raw_spacing_mm"][0] <= 6.5


def test_tilted_series_can_be_refused_instead(rsna: Path) -> None:
    source = RSNA(str(rsna), irregular="refuse", num_workers=0)
    tilted = next(s for s in source.studies() if s.study_id == cases(rsna)["gantry tilt"])
    with pytest.raises(ValueError, match="gantry tilt"):
        read_scan(tilted.scans[0])


def test_blood_is_bright_in_the_brain_window(rsna: Path, tmp_path: Path) -> None:
    manifest, _ = prepared(PhantomRSNA(str(rsna), **SIZES), tmp_path)
    studies = [manifest[index] for index in range(len(manifest))]
    scan = next(s for s in studies if s["labels"]["Intraparenchymal"] == 1)["scans"][0]
    stored = manifest.cache.read(scan["scan_id"]).astype(np.float32) / np.iinfo(np.uint16).max
    truth = nib.load(rsna / f"ground_truth/findings/{scan['scan_id']}.nii.gz")
    mask, _ = reorient(np.asarray(truth.dataobj).transpose(2, 1, 0), "SPL", scan["orientation"])
    blood = stored[mask == finding_id("intraparenchymal")]
    assert np.median(blood) > 0.7  # of 80 HU


def test_cq500_lies_as_downloaded(cq500: Path) -> None:
    series = cq500 / "CQ500CT0 CQ500CT0" / "Unknown Study" / "CT PLAIN THIN"
    assert (series / "CT000000.dcm").is_file()
    with (cq500 / "reads.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["name", "Category", "R1:ICH"] and len(rows[0]) == 2 + 3 * 14
    assert rows[0]["name"] == "CQ500-CT-0"


def test_cq500_is_read_back_with_the_painted_labels(cq500: Path) -> None:
    source = PhantomCQ500(str(cq500), **SIZES)
    studies = {study.study_id: study for study in source.studies()}
    truth = json.loads((cq500 / "ground_truth/studies.json").read_text())
    assert set(studies) == set(truth) - {cases(cq500)["no folder"]}
    columns = {"subdural": "SDH", "epidural": "EDH", "subarachnoid": "SAH"}
    for name, study in studies.items():
        assert tuple(study.labels) == LABEL_NAMES
        kinds = {finding["kind"] for finding in truth[name]["findings"]}
        for kind, column in columns.items():
            assert study.labels[column] == int(kind in kinds)
        shift = abs(truth[name]["midline_shift_ras_mm"])
        if abs(shift - 5.0) > 0.1:
            assert study.labels["MidlineShift"] == int(shift > 5.0)
        assert study.labels["Fracture"] == int("fracture" in kinds)
    taken = {scan.scan_id.partition("/")[2] for s in studies.values() for scan in s.scans}
    assert "CT PRE CONTRAST THIN" in taken and not taken & {"CT POST CONTRAST", "CT BONE"}


def test_cq500_is_prepared_and_the_hard_cases_are_told(cq500: Path, tmp_path: Path) -> None:
    manifest, quarantine = prepared(PhantomCQ500(str(cq500), **SIZES), tmp_path)
    studies = {manifest[index]["study_id"]: manifest[index] for index in range(len(manifest))}
    hard = cases(cq500)
    assert hard["all scans corrupt"] not in studies and hard["no folder"] not in studies
    assert len(studies[hard["missing slice"]]["scans"]) == 1
    assert len(studies[hard["gantry tilt"]]["scans"]) == 2
    assert corrections(manifest, hard["gantry tilt"]) == ["14.0"]
    assert len(studies[hard["duplicated instance"]]["scans"]) == 2
    for reason in ("slices are missing", "contrast medium", "bone kernel"):
        assert reason in quarantine
