"""The twins of the chest CT data sets, read by the code that reads the real ones."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.organ_captions import OrganCaptions
from medvlp.data.rad_chestct import CLASSES
from medvlp.data.read_scan import read_scan
from medvlp.data.records import StudyRecord
from medvlp.data.scan import reorient
from medvlp.phantom.bimcv_r import COLUMNS
from medvlp.phantom.bimcv_r_source import PhantomBIMCVR
from medvlp.phantom.canvas import organ_id
from medvlp.phantom.ct_rate_fixed_source import PhantomCTRateFixed
from medvlp.phantom.finding import finding_id
from medvlp.phantom.folder_source import PhantomFolder
from medvlp.phantom.organ_texts import ORGAN_OF
from medvlp.phantom.rad_chestct_source import PhantomRadChestCT
from medvlp.phantom.radgenome_source import PhantomRadGenome
from medvlp.phantom.source import TwinSource
from medvlp.phantom.totalsegmentator import segment
from tests.phantom.twin_files import content

TWINS: dict[str, type[TwinSource]] = {
    "ct_rate_fixed": PhantomCTRateFixed,
    "rad_chestct": PhantomRadChestCT,
    "bimcv_r": PhantomBIMCVR,
    "radgenome": PhantomRadGenome,
    "folder": PhantomFolder,
}
SIZES = {"num_train": 4, "num_test": 1, "seed": 5, "shape": (24, 28, 28)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TwinSource]:
    made: dict[str, TwinSource] = {}
    for name, twin in TWINS.items():
        made[name] = twin(str(tmp_path_factory.mktemp("twins") / name), **SIZES)
        made[name].materialise()
    return made


def truth(source: TwinSource) -> dict:
    return json.loads((source.twin_root / "ground_truth/studies.json").read_text())


def hard_case(source: TwinSource, kind: str) -> str:
    cases = json.loads((source.twin_root / "twin.json").read_text())["hard_cases"]
    return next(case["session"] for case in cases if case["kind"] == kind)


def reasons(source: TwinSource) -> dict[str, str]:
    list(source.studies())
    return {skip.id: skip.reason for skip in source.skips}


def readable(source: TwinSource) -> list[StudyRecord]:
    """The studies whose files are whole."""
    cases = json.loads((source.twin_root / "twin.json").read_text())["hard_cases"]
    damage = ("corrupt file", "empty file", "missing slice")
    broken = {case["session"] for case in cases if case["kind"] in damage}
    return [study for study in source.studies() if study.study_id not in broken]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_a_body_the_right_way_round(sources: dict[str, TwinSource], name: str) -> None:
    """Stated or read geometry puts the liver on the patient's right, in HU."""
    source = sources[name]
    for study in readable(source)[:3]:
        record = study.scans[0]
        scan = read_scan(record)
        masks = source.twin_root / "ground_truth/organs"
        stem = study.study_id if name == "folder" else record.scan_id
        stored = np.asarray(nib.load(masks / f"{stem}.nii.gz").dataobj).T
        organs, _ = reorient(stored, record.orientation or "SPL", "SPL")
        view, _ = reorient(scan.array, scan.orientation, "SPL")
        hu = view.astype(float) * scan.rescale.slope + scan.rescale.intercept
        assert 30 < np.median(hu[organs == organ_id("liver")]) < 80
        liver, heart = (
            np.argwhere(organs == organ_id(organ)).mean(0) for organ in ("liver", "heart")
        )
        assert liver[0] < heart[0] and liver[2] < heart[2]
        extent = np.asarray(scan.array.shape) * scan.spacing_mm
        assert np.all((extent > 250) & (extent < 450))


@pytest.mark.parametrize("name", TWINS)
def test_a_finished_twin_is_left_alone_and_another_refused(
    sources: dict[str, TwinSource], name: str
) -> None:
    source = sources[name]
    before = {path: path.lstat().st_mtime_ns for path in source.twin_root.rglob("*")}
    source.materialise()
    assert before == {path: path.lstat().st_mtime_ns for path in source.twin_root.rglob("*")}
    with pytest.raises(ValueError, match="twin of other parameters"):
        TWINS[name](str(source.twin_root), **{**SIZES, "seed": 6}).materialise()


@pytest.mark.parametrize("name", ["rad_chestct", "folder"])
def test_workers_write_what_one_process_writes(
    sources: dict[str, TwinSource], name: str, tmp_path: Path
) -> None:
    TWINS[name](str(tmp_path / "w"), **SIZES, num_workers=1).materialise()
    for path in sources[name].twin_root.rglob("*"):
        if path.is_file():
            other = tmp_path / "w" / path.relative_to(sources[name].twin_root)
            assert content(other) == content(path), path


def test_rad_chestct_labels_are_those_that_were_painted(sources: dict[str, TwinSource]) -> None:
    source = sources["rad_chestct"]
    facts = truth(source)
    for study in source.studies():
        painted = {finding["name"] for finding in facts[study.study_id]["findings"]}
        for label, token in CLASSES.items():
            same = {other for other, name in CLASSES.items() if name == token}
            assert study.labels[label] == int(bool(painted & same))
        assert study.patient_id.startswith("mrn") and not study.texts


def test_rad_chestct_files_are_int16_slices_downwards(sources: dict[str, TwinSource]) -> None:
    source = sources["rad_chestct"]
    study = next(iter(source.studies()))
    with np.load(study.scans[0].path) as archive:
        assert archive.files == ["ct"]
        array = archive["ct"]
    assert array.dtype == np.int16 and array.min() == -1000 and array.max() <= 1000
    lungs_first = (array[: len(array) // 2] < -700).sum() > (array[len(array) // 2 :] < -700).sum()
    assert lungs_first and study.scans[0].orientation == "IPL"
    told = reasons(source)
    assert "the file is not there" in told[hard_case(source, "no file")]
    assert "no row in the tables" in told[hard_case(source, "no row")]


def test_ct_rate_fixed_has_its_hard_cases(sources: dict[str, TwinSource]) -> None:
    source = sources["ct_rate_fixed"]
    studies = {study.study_id: study for study in source.studies()}
    assert hard_case(source, "no chest") not in studies
    flipped = read_scan(studies[hard_case(source, "other orientation")].scans[0], ["anatomy_mask"])
    assert flipped.orientation == "SAR" == flipped.companions["anatomy_mask"].orientation
    raw = read_scan(studies[hard_case(source, "raw numbers")].scans[0])
    assert raw.array.min() == 0
    ordinary = read_scan(studies["train_1_a"].scans[0], ["anatomy_mask"])
    assert ordinary.array.min() == -1024 and ordinary.rescale.is_identity
    lungs = np.isin(ordinary.companions["anatomy_mask"].array, range(10, 15))
    assert np.median(ordinary.array[lungs]) < -500


def test_totalsegmentator_ids() -> None:
    organs = np.zeros((2, 2, 4), np.uint8)
    organs[0, 0] = [organ_id("kidneys"), organ_id("aorta"), organ_id("heart"), organ_id("kidneys")]
    organs[1, 1, 3] = organ_id("heart")
    mask = segment(organs)
    assert mask[0, 0].tolist() == [2, 52, 51, 3]
    assert mask[1, 1, 3] == 61  # the upper left part of the heart


def test_bimcv_r_table_and_folders(sources: dict[str, TwinSource]) -> None:
    source = sources["bimcv_r"]
    with (source.twin_root / "meta/curated_ct_report_path_En.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1]["path"].startswith("/data/") and rows[1]["Labels"].startswith("[")
    studies = list(source.studies())
    assert {study.split for study in studies} == {"train", "test"}
    assert studies[0].scans[0].path.parts[-3:-1] == ("CT0", "ct")
    several = next(s for s in studies if s.study_id == hard_case(source, "several scans"))
    assert len(several.scans) == 4
    facts = truth(source)
    for study in studies:
        names = {finding["name"] for finding in facts[study.study_id]["findings"]}
        assert study.labels["pleural effusion"] == int("Pleural effusion" in names)
        assert study.labels["ground glass pattern"] == int("Lung opacity" in names)
    told = reasons(source)
    assert "no report in English" in told[hard_case(source, "no report")]
    spanish = PhantomBIMCVR(str(source.twin_root), **SIZES)
    spanish.spanish = True
    with_both = [study for study in spanish.studies() if study.texts]
    assert all(study.texts["findings_es"].startswith("se realiza tc") for study in with_both)


def test_radgenome_answers_are_true_of_the_masks(sources: dict[str, TwinSource]) -> None:
    source = sources["radgenome"]
    dataset = source.twin_root / "dataset"
    facts = truth(source)
    checked = 0
    for study in readable(source):
        stem = study.scans[0].scan_id
        masks = dataset / f"{stem.split('_')[0]}_anatomy_mask" / f"seg_{stem}"
        found = np.asarray(
            nib.load(source.twin_root / "ground_truth/findings" / f"{stem}.nii.gz").dataobj
        )
        for finding in facts[study.study_id]["findings"]:
            words = {"Lung nodule": "pulmonary nodule"}.get(
                finding["name"], finding["name"].lower()
            )
            answers = [
                question.answer
                for question in study.questions
                if question.kind == "location" and question.question[13:].startswith(words)
            ]
            marked = found == finding["id"]
            if finding["side"] not in ("left", "right") or not answers or marked.sum() < 20:
                continue
            for answer in answers:
                place = masks / f"{answer.rpartition('/')[2].lower()}.nii.gz"
                if place.is_file() and finding["name"] in ("Consolidation", "Lung opacity"):
                    inside = np.asarray(nib.load(place).dataobj)[marked].mean()
                    assert inside > 0.5 and finding["side"] in answer.lower(), (stem, answer)
                    checked += 1
    assert checked >= 3


def test_radgenome_presence_agrees_with_what_was_painted(sources: dict[str, TwinSource]) -> None:
    source = sources["radgenome"]
    facts = truth(source)
    for study in source.studies():
        names = {finding["name"].lower() for finding in facts[study.study_id]["findings"]}
        for question in study.questions:
            if question.kind == "presence" and "hiatal hernia" in question.question:
                assert (question.answer == "Yes.") == ("hiatal hernia" in names)
        if study.texts:
            assert set(study.texts) >= {"findings", "lung", "heart", "pleura"}


def test_radgenome_masks_are_companions(sources: dict[str, TwinSource]) -> None:
    source = sources["radgenome"]
    reader = PhantomRadGenome(str(source.twin_root), **SIZES)
    reader.masks = ("lung", "pleura", "thyroid")
    studies = {study.study_id: study for study in reader.studies()}
    companions = studies["train_1_a"].scans[0].companions
    assert sorted(companions) == ["mask_lung", "mask_pleura"]
    scan = read_scan(studies["train_1_a"].scans[0], ["mask_lung"])
    lungs = scan.companions["mask_lung"].array > 0
    assert np.median(scan.array[lungs]) < -600
    assert content(companions["mask_lung"]) == content(companions["mask_pleura"])
    assert not studies[hard_case(source, "no mask")].scans[0].companions


def test_folder_holds_four_formats_and_masks(sources: dict[str, TwinSource]) -> None:
    source = sources["folder"]
    studies = list(source.studies())
    paths = [study.scans[0].path for study in studies]
    assert {path.suffix for path in paths} == {".gz", "", ".npz", ".mha"}
    assert (source.twin_root / "studies.csv").read_bytes()[:3] == b"\xef\xbb\xbf"
    told = reasons(source)
    assert "leads out of" in told["../elsewhere.nii.gz"]
    assert "cannot be followed" in told["broken/loop.nii.gz"]
    assert "an empty folder" in told["broken/empty"]
    assert "not there" in told["broken/absent.nii.gz"]
    labelled = {study.study_id: study.labels for study in studies}
    assert labelled[hard_case(source, "label slip")]["Medical material"] == -1
    facts = truth(source)
    for study in readable(source):
        scan = read_scan(study.scans[0], ["anatomy_mask"])
        assert scan.companions["anatomy_mask"].array.max() >= organ_id("liver")
        names = {finding["name"] for finding in facts[study.study_id]["findings"]}
        assert study.labels["Emphysema"] == int("Emphysema" in names)


def test_ids_of_findings_are_those_of_labels_json(sources: dict[str, TwinSource]) -> None:
    for source in sources.values():
        ids = json.loads((source.twin_root / "ground_truth/labels.json").read_text())
        assert ids["findings"][str(finding_id("Emphysema"))] == "Emphysema"


def test_ct_rate_fixed_splits_its_reports_by_organ(sources: dict[str, TwinSource]) -> None:
    root = sources["ct_rate_fixed"].twin_root
    files = [str(root / f"{kind}_info.json") for kind in ("desc", "conc")]
    captions = OrganCaptions(*files, organs=["lung", "heart", "esophagus", "aorta"])
    facts = truth(sources["ct_rate_fixed"])
    assert captions.studies == sorted(facts)
    for study, told in facts.items():
        found = {ORGAN_OF[finding["name"]] for finding in told["findings"]}
        abnormal = {organ for organ, caption in captions.of(study).items() if caption.abnormal}
        assert abnormal == found & set(captions.organs)


def test_ct_rate_fixed_can_be_all_healthy_or_all_ill(tmp_path: Path) -> None:
    facts = {}
    for share in (0.0, 1.0):
        source = PhantomCTRateFixed(
            str(tmp_path / str(share)), **SIZES | {"hard_cases": False, "prevalence": share}
        )
        source.materialise()
        facts[share] = [len(study["findings"]) for study in truth(source).values()]
        assert source.describe()["prevalence"] == share
    assert max(facts[0.0]) == 0 and 18 in facts[1.0]
