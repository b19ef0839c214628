"""What is wrong with HSENet's data is named, with its file, and the rest goes on."""

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medvlp.checkpoints.frozen_slice_encoder import FrozenSliceEncoder
from medvlp.data.body_volume import BodyVolume
from medvlp.data.conversation import Conversations
from medvlp.data.engine import Engine, LocalEngine
from medvlp.data.folder import Folder
from medvlp.data.hsenet_recipe import HSENetRecipe
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.manifest import Manifest
from medvlp.data.plain_report import PlainReport
from medvlp.data.preparation import prepare_dataset
from medvlp.data.slice_stack import SliceStack
from medvlp.data.volume_datamodule import VolumeDataModule
from medvlp.text.tokenizers import WordPieceTokenizer

from .conftest import raw_chest, write_table


def recipe_of(**changes: Any) -> HSENetRecipe:
    return HSENetRecipe(
        (4, 8, 8),
        BodyVolume((-1000.0, 200.0)),
        slices=SliceStack(6, **changes),
        slice_input=ImageRecipe(16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        slice_encoder=FrozenSliceEncoder(16, 8, width=8, depth=1, num_heads=2, mlp_dim=8, seed=0),
    )


@pytest.fixture
def source(tmp_path: Path) -> Folder:
    """Three scans of which one has two slices, one an empty report."""
    reports = {"whole": "Clear.", "shallow": "A nodule.", "silent": "\"'"}
    for seed, name in enumerate(reports):
        depth = 2 if name == "shallow" else 8
        array = raw_chest(seed)[..., :depth] - 1024
        nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / f"{name}.nii")
    rows: list[dict[str, object]] = [
        {"study_id": name, "path": f"{name}.nii", "findings": text, "split": "train"}
        for name, text in reports.items()
    ]
    write_table(tmp_path / "studies.csv", rows)
    columns = {"findings": "findings"}
    return Folder(str(tmp_path / "studies.csv"), str(tmp_path), text_columns=columns)


def prepared(source: Folder, recipe: HSENetRecipe, cache: Path, engine: Engine) -> Manifest:
    share = 0.5
    return prepare_dataset(
        source, recipe, cache_dir=cache, engine=engine, max_quarantine_share=share
    )


@pytest.mark.parametrize(
    ("few", "left", "says"),
    [
        ("refuse", 2, "2 slices, and 6 are wanted; leave the scan out"),
        ("interpolate", 3, "2 slices, and 6 are wanted: interpolated between them"),
        ("repeat", 3, "2 slices, and 6 are wanted: some are repeated"),
    ],
)
def test_too_few_slices(source: Folder, tmp_path: Path, few: str, left: int, says: str) -> None:
    manifest = prepared(source, recipe_of(few=few), tmp_path / "cache", LocalEngine(1))
    assert len(manifest) == left
    (line,) = (
        line
        for line in (manifest.folder / "quarantine.csv").read_text().splitlines()
        if "shallow.nii" in line
    )
    assert says in line


@pytest.mark.parametrize("texts", [PlainReport(), Conversations()])
def test_an_empty_report_is_not_for_training(
    source: Folder, tmp_path: Path, texts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module = VolumeDataModule(
        source,
        recipe_of(),
        cache_dir=str(tmp_path / "cache"),
        tokenizer=WordPieceTokenizer("phantom", 16),
        texts=texts,
        batch_size=1,
        engine=LocalEngine(1),
    )
    with caplog.at_level(logging.WARNING):
        module.prepare_data()
        module.splits.val_fraction = 0.0
        module.setup("fit")
    assert "1 of 3 training studies have no text and are left out: silent" in caplog.text
    assert len(module.datasets["train"]) == 2


def test_missing_features_are_named(source: Folder, tmp_path: Path) -> None:
    recipe = recipe_of()
    manifest = prepared(source, recipe, tmp_path / "cache", LocalEngine(1))
    scan = manifest[0]["scans"][0]

    def read(name: str, region: Any) -> np.ndarray:
        return manifest.cache.read(scan["scan_id"], region, field=name)

    manifest.cache.path_of(scan["scan_id"], "slice_features").unlink()
    with pytest.raises(FileNotFoundError, match=r"slice_features of whole.* is not in the cache"):
        recipe.inputs(read, scan)
    again = prepared(source, recipe, tmp_path / "cache", LocalEngine(1))  # made anew
    assert len(again) == 3 and recipe.inputs(read, scan)["slice_features"].shape == (6, 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_dask_makes_the_same_features(source: Folder, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    from medvlp.data.dask_engine import DaskEngine

    engines = {"dask": DaskEngine(num_workers=1), "local": LocalEngine(1)}
    one, two = (
        prepared(source, recipe_of(), tmp_path / name, engine) for name, engine in engines.items()
    )
    assert list(one) == list(two)
    for study in one:
        for scan in study["scans"]:
            for field in one.fields:
                ours, theirs = (m.cache.read(scan["scan_id"], field=field) for m in (one, two))
                np.testing.assert_array_equal(ours, theirs)
