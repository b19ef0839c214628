import json
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import load

from medvlp.bench import data_reader
from medvlp.bench.__main__ import main
from medvlp.bench.data import load_recipe
from medvlp.bench.data_files import Files, chest, evict
from medvlp.bench.data_memory import peak_bytes
from medvlp.bench.data_prepare import baseline, ours
from medvlp.data.manifest import Manifest

MIB = 2**20


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, (12, 24, 32), (1.0, 0.7, 0.8), 2)


def test_files_have_the_stated_geometry_and_no_two_share_a_name(files: Files) -> None:
    image = load(files.paths[1])
    assert image.shape == (32, 24, 12)
    assert [round(float(mm), 3) for mm in image.header.get_zooms()] == [0.8, 0.7, 1.0]
    assert [study.study_id for study in files.source().studies()] == ["scan0", "scan1"]
    assert [study.study_id for study in files.source(1, 1).studies()] == ["scan1"]


def test_the_chest_has_the_noise_of_one() -> None:
    array = chest((8, 128, 128))
    assert array.min() == -1024
    tissue = array[:, 60:68, 60:68].astype(float)
    assert abs(tissue.mean() - 40) < 15
    assert 20 < tissue.std() < 80


def test_all_readers_agree(files: Files) -> None:
    arrays = {name: read(files.paths[0]) for name, read in data_reader.WAYS.items()}
    raw = arrays.pop("bare isal")
    expected = arrays["medvlp"]
    for name in ("nibabel get_fdata", "nibabel dataobj"):
        np.testing.assert_array_equal(arrays[name].transpose(2, 1, 0), expected)
    assert raw[352:] == expected.tobytes()


def test_the_baseline_makes_the_same_numbers(files: Files, tmp_path: Path) -> None:
    import torch

    recipe, source = load_recipe("float16"), files.source(0, 1)
    ours(source, recipe, tmp_path / "ours")
    baseline(source, recipe, tmp_path / "theirs")
    folder = next((tmp_path / "ours").glob("*/*/volumes")).parent
    stored = Manifest(folder).cache.read("scan0")
    theirs = torch.load(tmp_path / "theirs" / "scan0.pt", weights_only=True)
    np.testing.assert_array_equal(stored, theirs.numpy())


def test_eviction_says_whether_it_worked(files: Files) -> None:
    assert evict(files.paths[0]) in (True, False)
    assert files.paths[0].read_bytes()


def test_an_array_is_counted_in_the_peak() -> None:
    peak = peak_bytes(np.ones, (1,), 8 * MIB)
    assert 64 * MIB <= peak < 80 * MIB


def test_the_command_line_writes_a_table_for_each_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.json"
    parts = ["crop", "whole", "codec", "loader"]
    options = ["--quick", "--volumes", "2", "--workers", "0", "--folder", str(tmp_path)]
    main(["data", *options, "--json", str(path), "--parts", *parts])
    record = json.loads(path.read_text())
    assert list(record["tables"]) == parts
    assert all(row["volumes/s"] > 0 for row in record["tables"]["loader"])
    output = capsys.readouterr().out
    assert "24 x 64 x 64 voxels" in output and record["machine"]["torch"] in output
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_reader_and_prepare(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    options = ["--quick", "--volumes", "2", "--json", str(path)]
    main(["data", *options, "--parts", "reader", "prepare"])
    tables = json.loads(path.read_text())["tables"]
    assert [row["reader"] for row in tables["reader"]] == list(data_reader.WAYS)
    assert [row["processes"] for row in tables["prepare"]] == [1, 1, 2, 2]
