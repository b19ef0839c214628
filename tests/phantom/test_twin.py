import json
from pathlib import Path

import numpy as np
import pytest

from medvlp.phantom.npz_file import write_npz
from medvlp.phantom.tables import write_table
from medvlp.phantom.twin import finish, paint_all, prepare_root
from medvlp.phantom.twin_parameters import TwinParameters

PARAMETERS = {"seed": 1, "shape": (32, 32, 32)}


def double(number: int) -> int:
    return 2 * number


def begin(root: Path, **changes: object) -> bool:
    arguments = {"version": 1, "parameters": PARAMETERS, **changes}
    return prepare_root(root, "a set", **arguments)


def test_a_twin_is_begun_continued_and_finished(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "twin"
    assert not begin(root)
    assert not begin(root)
    finish(root, "a set", version=1, parameters=PARAMETERS, facts={"num_volumes": 3})
    assert begin(root)
    record = json.loads((root / "twin.json").read_text())
    assert record["parameters"] == {"seed": 1, "shape": [32, 32, 32]}
    assert record["finished"] and record["num_volumes"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"seed": 2, "shape": [32, 32, 32]}}, "seed: found 1, asked for 2"),
        ({"version": 2}, "version: found 1, asked for 2"),
    ],
)
def test_another_twin_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    begin(tmp_path)
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, **changes)
    with pytest.raises(ValueError, match="twin_of: found a set, asked for another"):
        prepare_root(tmp_path, "another", version=1, parameters=PARAMETERS)


def test_foreign_files_are_never_written_among(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    assert not begin(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "scan.nii").touch()
    with pytest.raises(ValueError, match=r"files that are not a twin \(no twin.json\)"):
        begin(tmp_path / "other")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_results_come_in_order(num_workers: int) -> None:
    assert paint_all(double, range(20), num_workers, "Doubling") == [2 * n for n in range(20)]


def test_sizes() -> None:
    TwinParameters(1, 0, shape=(16, 16, 16)).check()
    with pytest.raises(ValueError, match="at least one training study"):
        TwinParameters(0, 3).check()
    with pytest.raises(ValueError, match="too small"):
        TwinParameters(1, 0, shape=(16, 15, 16)).check()
    with pytest.raises(ValueError, match="not between 0 and 1"):
        TwinParameters(1, 0, prevalence=1.5).check()


def test_a_table_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.csv"
    write_table(path, ("a", "b"), [{"b": "x, y"}], encoding="utf-8-sig")
    assert path.read_bytes() == b'\xef\xbb\xbfa,b\n,"x, y"\n'


def test_archives_are_numpys_and_equal_whenever_written(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for name in ("one", "two"):
        write_npz(tmp_path / f"{name}.npz", ct=array)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["ct"], array)
