import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from medvlp import config
from medvlp.data.engine import LocalEngine
from medvlp.data.manifest import Manifest
from medvlp.data.mr_rate import LABEL_NAMES
from medvlp.data.preparation import prepare_dataset
from medvlp.data.records import StudySource
from medvlp.phantom.head_canvas import finding_id
from medvlp.phantom.mr_rate import PhantomMRRate, write_mr_rate_twin
from medvlp.phantom.pub_brain_5 import PhantomPubBrain5, write_pub_brain_5_twin
from medvlp.phantom.pub_brain_5_plan import KIND_OF
from medvlp.phantom.twin_parameters import TwinParameters

SHAPE = (32, 24, 24)
SIZES = {"num_train": 11, "num_test": 5, "seed": 2, "shape": SHAPE}
WANTED = TwinParameters(**SIZES, hard_cases=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def prepared(source: StudySource, folder: Path) -> tuple[Manifest, str]:
    with initialize_config_dir(str(config.config_dir()), version_base="1.3"):
        tree = compose(overrides=["+data/recipe@recipe=phantom_brain"])
    manifest = prepare_dataset(
        source,
        instantiate(tree.recipe, _convert_="all"),
        cache_dir=folder,
        engine=LocalEngine(0),
        max_quarantine_share=0.5,
    )
    return manifest, (manifest.folder / "quarantine.csv").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pub_brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pub_brain_5_twin(tmp_path_factory.mktemp("pub_brain_5"), WANTED)


@pytest.fixture(scope="module")
def mr_rate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mr_rate_twin(tmp_path_factory.mktemp("mr_rate"), WANTED)


def test_pub_brain_5_lies_as_hlip_reads_it(pub_brain: Path) -> None:
    table = rows(pub_brain / "pub_brain_5.csv")
    assert list(table[0]) == ["study", *KIND_OF]
    assert all(row["study"].startswith("/data/pub_brain_5/") for row in table)
    sources = {row["study"].split("/")[3] for row in table}
    assert sources == {"open_bhb", "stroke", "brats23", "nyu_mets", "ucsf_mets"}
    gli = pub_brain / "brats23/BraTS-GLI/ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    study = min(path for path in gli.iterdir() if path.name.endswith("-000"))
    names = sorted(path.name.removeprefix(study.name) for path in study.iterdir())
    assert names == [f"-{name}.nii.gz" for name in ("seg", "t1c", "t1n", "t2f", "t2w")]
    test_sets = list((pub_brain / "brats23").glob("*/*ValidationData/*/*.nii.gz"))
    assert test_sets and not any("seg" in path.name for path in test_sets)


def test_diffusion_has_two_channels_and_is_bright_in_the_infarct(pub_brain: Path) -> None:
    path = min((pub_brain / "stroke").glob("sub-*/DWI/nifti/SERIES.nii.gz"))
    image = nib.load(path)
    assert image.ndim == 4 and image.shape[3] == 2
    spacing = image.header.get_zooms()
    assert 5.0 <= spacing[2] <= 6.5
    study = path.parts[-4]
    mask = np.asarray(
        nib.load(pub_brain / f"ground_truth/findings/stroke/{study}/DWI.nii.gz").dataobj
    )
    weighted = np.asarray(image.dataobj)[..., 1]
    infarct = weighted[mask == finding_id("stroke")]
    assert infarct.mean() > 1.8 * weighted[weighted > np.median(weighted)].mean()


def test_target_slices_are_those_of_the_stored_array(pub_brain: Path) -> None:
    source = PhantomPubBrain5(str(pub_brain), **SIZES)
    study = next(s for s in source.studies() if s.study_id.startswith("brats23/train/adult_men"))
    truth = pub_brain / "ground_truth/findings" / study.study_id / "t1c.nii.gz"
    mask = np.asarray(nib.load(truth).dataobj) == finding_id("meningioma")
    # RPI: the third axis downwards; the file's runs upwards
    downwards = np.flatnonzero(mask.any((0, 1))[::-1])
    assert study.metadata["target_slices"] == " ".join(map(str, downwards))


def test_pub_brain_5_is_read_back(pub_brain: Path) -> None:
    source = PhantomPubBrain5(str(pub_brain), **SIZES)
    source.materialise()  # finished: nothing is written again
    studies = list(source.studies())
    assert {study.split for study in studies} == {"train", "test"}
    counts = [len(study.scans) for study in studies]
    assert min(counts) == 1 and max(counts) == 8
    reasons = " ".join(skip.reason for skip in source.skips)
    for part in ("its folder is not there", "expected a single 1", "no SERIES.nii.gz", "no row of"):
        assert part in reasons
    for study in studies:
        label = next((name for name, value in study.labels.items() if value == 1), None)
        expected = {"Normal": "No significant abnormalities", "Stroke": "Acute stroke"}
        if label:
            assert expected.get(label, label) in study.texts["impression"]


def test_pub_brain_5_is_prepared(pub_brain: Path, tmp_path: Path) -> None:
    manifest, quarantine = prepared(PhantomPubBrain5(str(pub_brain), **SIZES), tmp_path)
    cases = {case["kind"]: case["study"] for case in _hard_cases(pub_brain)}
    kept = {manifest[index]["study_id"] for index in range(len(manifest))}
    assert cases["all scans corrupt"] not in kept and cases["corrupt file"] in kept
    assert {cases["odd spacing"], cases["eight scans"], cases["one scan"]} <= kept
    both = next(
        scan
        for index in range(len(manifest))
        for scan in manifest[index]["scans"]
        if scan["scan_id"].endswith("/DWI")
    )
    assert both["num_channels"] == 2 and both["raw_shape"][0] == 2
    assert np.prod(both["shape"]) == np.prod(both["raw_shape"])  # stacked along the slices
    assert f"{cases['all scans corrupt']},none of its scans could be prepared" in quarantine
    assert "PWI" in quarantine and "truncated" in quarantine and "DWI" not in quarantine


def test_an_other_twin_in_the_folder_is_refused(pub_brain: Path) -> None:
    with pytest.raises(ValueError, match="twin of other parameters"):
        write_pub_brain_5_twin(pub_brain, replace(WANTED, seed=9))
    with pytest.raises(ValueError, match="twin of other parameters"):
        write_mr_rate_twin(pub_brain, WANTED)


def test_mr_rate_lies_as_on_the_hub(mr_rate: Path) -> None:
    study = next(path for path in sorted((mr_rate / "mri/batch00").iterdir()) if path.is_dir())
    images = sorted(path.name for path in (study / "img").iterdir())
    masks = sorted(path.name for path in (study / "seg").iterdir())
    assert all(name.startswith(f"{study.name}_") for name in images)
    assert masks == sorted(
        f"{name.removesuffix('.nii.gz')}_{kind}-mask.nii.gz"
        for name in images
        for kind in ("brain", "defacing")
    )
    assert list((mr_rate / "mri").rglob("*.zip"))
    for name, columns in (
        ("splits.csv", ["batch_id", "patient_uid", "study_uid", "split"]),
        ("pathology_labels/mrrate_labels.csv", ["study_uid", *LABEL_NAMES]),
    ):
        assert list(rows(mr_rate / name)[0]) == columns
    metadata = rows(mr_rate / "metadata/batch00_metadata.csv")
    assert {row["classified_modality"] for row in metadata} <= {"T1w", "T2w", "FLAIR", "SWI"}
    assert len(metadata[0]) == 25  # those that the guide lists


def test_mr_rate_volumes_are_defaced_and_one_number_type_or_the_other(mr_rate: Path) -> None:
    types = set()
    for path in sorted((mr_rate / "mri/batch00").glob("*/img/*.nii.gz"))[:12]:
        image = nib.load(path)
        types.add(image.get_data_dtype().name)
        mask = path.parent.parent / "seg" / path.name.replace(".nii.gz", "_defacing-mask.nii.gz")
        face = np.asarray(nib.load(mask).dataobj) > 0
        assert face.any() and not np.asarray(image.dataobj)[face].any()
    assert types == {"uint16", "float32"}


def test_mr_rate_is_read_back(mr_rate: Path) -> None:
    source = PhantomMRRate(str(mr_rate), **SIZES)
    studies = list(source.studies())
    assert {study.split for study in studies} == {"train", "val", "test"}
    counts = [len(study.scans) for study in studies]
    assert min(counts) == 1 and max(counts) == 8
    truth = json.loads((mr_rate / "ground_truth/studies.json").read_text())
    for study in studies:
        kinds = {finding["kind"] for finding in truth[study.study_id]["findings"]}
        if -1 not in study.labels.values():
            assert study.labels["Glioma"] == int("glioma" in kinds)
            assert study.labels["Intracranial meningioma"] == int("meningioma" in kinds)
    patients = {study.patient_id: study.split for study in studies}
    assert all(patients[study.patient_id] == study.split for study in studies)
    reasons = " ".join(skip.reason for skip in source.skips)
    for part in ("zip files", "without a report", "labels unknown", "but not there", "a row in"):
        assert part in reasons


def test_mr_rate_is_prepared(mr_rate: Path, tmp_path: Path) -> None:
    manifest, quarantine = prepared(PhantomMRRate(str(mr_rate), **SIZES), tmp_path)
    cases = {case["kind"]: case["study"] for case in _hard_cases(mr_rate)}
    studies = {manifest[index]["study_id"]: manifest[index] for index in range(len(manifest))}
    assert cases["all scans corrupt"] not in studies
    assert quarantine.count("truncated") == 2
    sequences = json.loads(studies[cases["eight scans"]]["metadata"]["sequences"])
    assert set(sequences) == {s["scan_id"] for s in studies[cases["eight scans"]]["scans"]}


def _hard_cases(root: Path) -> list[dict[str, str]]:
    return json.loads((root / "twin.json").read_text())["hard_cases"]
