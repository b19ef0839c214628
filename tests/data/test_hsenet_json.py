import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medvlp.data import hsenet_export
from medvlp.data.conversation import Conversations
from medvlp.data.engine import LocalEngine
from medvlp.data.hsenet_arrays import HSENetArrays
from medvlp.data.hsenet_json import HSENetJSON
from medvlp.data.manifest import Manifest
from medvlp.data.plain_report import PlainReport
from medvlp.data.preparation import prepare_dataset
from medvlp.data.sampling import EachQuestion, EachScan, SampleKey
from medvlp.data.volume_dataset import VolumeDataset

RECIPE = HSENetArrays([4, 6, 6], num_slices=3, feature_dim=5, store_dtype="float32")
PATHS = ("image", "biomedclip_features")
NAMES = ("train_1_a_1", "train_1_a_2", "train_2_a_1", "valid_1_a_1")


def write_tree(root: Path, *, questions: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Write the arrays and the file as the published scripts do."""
    chance = np.random.default_rng(0)
    lists: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for name in NAMES:
        image, features = root / f"{name}_3D_features.npy", root / f"{name}_biomedclip_features.npy"
        np.save(image, chance.random((1, 4, 6, 6), dtype=np.float32))
        np.save(features, chance.standard_normal((3, 5), dtype=np.float32))
        item = {"image": image.name, "biomedclip_features": features.name, "text": f"{name}. Old."}
        split = "train" if name.startswith("train") else "validation"
        lists[split].append(item)
        if questions:
            item |= {"abnormality": "nodule", "anatomy": "Lung/Right lower lobe"}
            lists[split].append({**item, "abnormality": "cyst", "anatomy": "Abdomen/Liver"})
    (root / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    return lists


def prepared(root: Path, cache: Path, **options: Any) -> Manifest:
    source = HSENetJSON(str(root / "dataset.json"), str(root), **options)
    return prepare_dataset(source, RECIPE, cache_dir=cache, engine=LocalEngine(1))


def samples(manifest: Manifest, **options: Any) -> VolumeDataset:
    rows = np.arange(len(manifest))
    return VolumeDataset(manifest, RECIPE, rows=rows, label_names=(), seed=0, **options)


def test_published_arrays_are_read_as_they_are(tmp_path: Path):
    write_tree(tmp_path)
    manifest = prepared(tmp_path, tmp_path / "cache")
    assert [row["split"] for row in manifest] == ["train", "train", "train", "test"]
    assert [row["patient_id"] for row in manifest] == ["train_1", "train_1", "train_2", "valid_1"]
    dataset = samples(manifest, scans=EachScan(), texts=PlainReport())
    (sample,) = dataset[[SampleKey(0, 2)]]
    volume = np.load(tmp_path / "train_2_a_1_3D_features.npy")
    assert torch.equal(sample.inputs[0]["image"], torch.from_numpy(volume))
    features = np.load(tmp_path / "train_2_a_1_biomedclip_features.npy")
    assert torch.equal(sample.inputs[0]["slice_features"], torch.from_numpy(features))
    assert sample.texts[0].text == "train_2_a_1. Old."


@pytest.mark.parametrize("task", ["report", "location"])
def test_what_is_written_is_what_was_read(tmp_path: Path, task: Any, capsys: Any):
    told = write_tree(tmp_path, questions=task == "location")
    manifest = prepared(tmp_path, tmp_path / "cache")
    out = tmp_path / "out"
    hsenet_export.main([str(manifest.folder), str(out), "--task", task])
    assert f"train: {len(told['train'])}" in capsys.readouterr().out
    written = json.loads((out / "dataset.json").read_text())
    for split, items in told.items():
        assert len(written[split]) == len(items)
        for ours, theirs in zip(written[split], items, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(ours[key] == theirs[key] for key in theirs if key not in PATHS)
            for key in PATHS:
                array, truth = np.load(ours[key]), np.load(tmp_path / theirs[key])
                assert array.dtype == truth.dtype and np.array_equal(array, truth)
    again = prepared(out, tmp_path / "again")
    assert len(again) == len(manifest)


def test_items_of_a_volume_are_its_questions(tmp_path: Path):
    write_tree(tmp_path, questions=True)
    manifest = prepared(tmp_path, tmp_path / "cache")
    assert len(manifest) == len(NAMES)
    dataset = samples(manifest, scans=EachQuestion(), texts=Conversations())
    assert len(dataset) == 2 * len(NAMES)
    first, second = dataset[[SampleKey(0, 0), SampleKey(0, 1)]]
    assert first.texts[0].question == "Where is the nodule located in the image?"
    assert (first.texts[0].text, second.texts[0].text) == (
        "Lung/Right lower lobe",
        "Abdomen/Liver",
    )


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/secret.npy", "a/../../secret.npy"])
def test_a_path_that_leaves_the_root_is_refused(tmp_path: Path, name: str):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.npy").touch()
    for key in PATHS:
        item = {"image": "a.npy", "text": "Clear.", key: name}
        (root / "dataset.json").write_text(json.dumps({"train": [item]}))
        with pytest.raises(ValueError, match=r"train\[0\] names .*secret\.npy.*source\.prefix"):
            list(HSENetJSON(str(root / "dataset.json"), str(root)).studies())


def test_paths_of_another_machine_are_read_by_their_prefix(tmp_path: Path):
    lists = write_tree(tmp_path)
    for item in (item for items in lists.values() for item in items):
        item |= {key: f"/home/someone/data/{item[key]}" for key in PATHS}
    (tmp_path / "dataset.json").write_text(json.dumps(lists))
    assert len(prepared(tmp_path, tmp_path / "cache", prefix="/home/someone/data")) == len(NAMES)


def test_labels_are_found_by_the_name_of_the_volume(tmp_path: Path):
    write_tree(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text("VolumeName,Emphysema\ntrain_1_a_2.nii.gz,1\ntrain_2_a_1.nii.gz,0\n")
    file = str(tmp_path / "dataset.json")
    source = HSENetJSON(file, str(tmp_path), labels=[str(table)], label_names=["Emphysema"])
    assert [study.labels["Emphysema"] for study in source.studies()] == [-1, 1, 0, -1]


def test_odd_items_are_named_and_the_rest_goes_on(tmp_path: Path):
    lists = write_tree(tmp_path)
    lists["train"] += [
        {"text": "No image."},
        {**lists["train"][0], "text": "Other report."},
        {"image": lists["validation"][0]["image"], "text": "Twice."},
    ]
    lists["train"][2]["text"] = " "
    (tmp_path / "dataset.json").write_text(json.dumps(lists))
    source = HSENetJSON(str(tmp_path / "dataset.json"), str(tmp_path))
    studies = list(source.studies())
    assert len(studies) == len(NAMES)
    told = [f"{skip.id} {skip.reason}" for skip in source.skips]
    assert any("train[3] an item without the path of an image" in text for text in told)
    assert any("2 different reports of one volume" in text for text in told)
    assert any("train[2] the report is empty" in text for text in told)
    assert any("validation[0]" in text and "is in the list 'train' too" in text for text in told)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ('{"test": []}', r"has \['test'\], expected"), ("[1]", "has list")],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, content: str, message: str):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        list(HSENetJSON(str(tmp_path / "dataset.json"), str(tmp_path)).studies())


def damage_size(root: Path) -> None:
    np.save(root / "train_1_a_1_3D_features.npy", np.zeros((1, 4, 6, 7), np.float32))


def damage_range(root: Path) -> None:
    np.save(root / "train_1_a_1_3D_features.npy", np.full((1, 4, 6, 6), -500, np.float32))


def damage_slices(root: Path) -> None:
    np.save(root / "train_1_a_1_biomedclip_features.npy", np.zeros((2, 5), np.float32))


def damage_objects(root: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.save(root / "train_1_a_1_biomedclip_features.npy", objects, allow_pickle=True)


def remove_features(root: Path) -> None:
    (root / "train_1_a_1_biomedclip_features.npy").unlink()


def unstate_features(root: Path) -> None:
    lists = json.loads((root / "dataset.json").read_text())
    del lists["train"][0]["biomedclip_features"]
    (root / "dataset.json").write_text(json.dumps(lists))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_size, "expected (4, 6, 6)"),
        (damage_range, "numbers from -500 to -500, expected 0 to 1"),
        (damage_slices, "slice_features are (2, 5), expected (3, 5)"),
        (damage_objects, "never loaded: it can run code"),
        (remove_features, "train_1_a_1_biomedclip_features.npy"),
        (unstate_features, "needs slice_features beside the scan, and the data set states none"),
    ],
)
def test_bad_arrays_are_named_and_the_rest_goes_on(tmp_path: Path, damage: Any, message: str):
    write_tree(tmp_path)
    damage(tmp_path)
    source = HSENetJSON(str(tmp_path / "dataset.json"), str(tmp_path))
    manifest = prepare_dataset(
        source,
        RECIPE,
        cache_dir=tmp_path / "cache",
        engine=LocalEngine(1),
        max_quarantine_share=0.5,
    )
    assert len(manifest) == len(NAMES) - 1
    quarantine = (manifest.folder / "quarantine.csv").read_text()
    assert "train_1_a_1" in quarantine and message in quarantine.replace('""', '"')


def test_data_of_another_model_are_not_written(tmp_path: Path):
    write_tree(tmp_path)
    manifest = prepared(tmp_path, tmp_path / "cache")
    manifest.recipe = {"kind": "ct"}
    with pytest.raises(ValueError, match="prepared for 'ct', expected a recipe of HSENet"):
        hsenet_export.export(manifest, tmp_path / "out")
    reports = Manifest(manifest.folder)
    with pytest.raises(ValueError, match="no study with a location"):
        hsenet_export.export(reports, tmp_path / "out", task="location")
