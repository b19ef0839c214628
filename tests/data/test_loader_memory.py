"""Memory of the loader and its workers does not grow with the epochs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the memory of processes from /proc"
)


def epochs(
    num_rows: int, num_workers: int, num_epochs: int, folder: Path, script: str = "loader_memory"
) -> list[dict[str, float]]:
    arguments = map(str, (num_rows, num_workers, num_epochs, folder))
    done = subprocess.run(
        [sys.executable, "-m", f"tests.data.{script}", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("num_rows", "num_workers"),
    [(300, 2), pytest.param(5000, 4, marks=pytest.mark.slow)],
)
def test_memory_is_flat(num_rows: int, num_workers: int, tmp_path: Path) -> None:
    found = epochs(num_rows, num_workers, 5, tmp_path / "cache")
    assert len(found) == 5 and found[0]["samples"] > 0.8 * num_rows
    assert found[-1]["resident"] < 1.02 * found[0]["resident"]
    assert found[-1]["resident"] < 1.005 * found[1]["resident"]  # libraries hide little leaks


@pytest.mark.slow
def test_an_index_of_millions_is_held_once_for_all_workers(tmp_path: Path) -> None:
    few, many = (
        epochs(num_rows, 3, 3, tmp_path / str(num_rows), "image_loader_memory")
        for num_rows in (8, 2_000_000)
    )
    assert many[-1]["resident"] < 1.02 * many[0]["resident"]
    # 40 bytes of index and some arrays of 8 bytes; copies in three workers would be four times that
    assert many[-1]["resident"] - few[-1]["resident"] < 2 * 2_000_000 * 80 / 2**20
