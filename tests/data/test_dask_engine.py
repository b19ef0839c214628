"""The Dask engine on real workers of this machine, and under a Slurm of two shell scripts."""

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from medvlp.data.dask_engine import DaskEngine
from medvlp.data.engine import PreparationError
from medvlp.data.readers.registry import read
from medvlp.user_errors import user_message

# Dask's own: sockets and event loops that the garbage collector closes
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SBATCH = """#!/bin/sh
cp "$1" job.sh  # it is deleted as soon as this script returns
setsid sh job.sh > job.log 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -- "-$1"
"""


def test_workers_of_this_machine_give_every_result_once() -> None:
    assert sorted(DaskEngine(num_workers=2).run(abs, range(-30, 0))) == list(range(1, 31))
    assert list(DaskEngine(num_workers=2).run(abs, [])) == []


def test_a_users_error_on_a_worker_keeps_its_one_line() -> None:
    with pytest.raises(PreparationError, match=r"absent\.nii is not there") as caught:
        list(DaskEngine(num_workers=1).run(read, [Path("absent.nii")]))
    assert user_message(caught.value) == "absent.nii is not there"


@pytest.mark.slow
def test_an_item_that_kills_workers_is_named() -> None:
    results = []
    with pytest.raises(PreparationError, match=r"died each time they were given 7.*is kept"):
        results.extend(DaskEngine(num_workers=1).run(os._exit, [7]))
    assert not results


def test_the_work_runs_under_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    options = {
        "memory": "2GB",
        "walltime": "00:05:00",
        "scheduler_options": {"host": "127.0.0.1"},
        "log_directory": str(tmp_path / "logs"),
        "local_directory": str(tmp_path / "scratch"),
    }
    engine = DaskEngine(num_workers=1, slurm=options)
    assert sorted(engine.run(abs, [-3, -2, -1])) == [1, 2, 3]


def test_patience_without_workers_has_an_end() -> None:
    distributed = pytest.importorskip("distributed")
    started = time.monotonic()
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster,
        pytest.raises(PreparationError, match=r"no worker for 0\.5 s"),
    ):
        list(DaskEngine(scheduler=cluster.scheduler_address, patience_s=0.5).run(abs, [1]))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "tcp://x:1", "slurm": {}}, "one or the other"),
        ({"num_workers": 0}, "num_workers is 0"),
    ],
)
def test_contradictions_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DaskEngine(**options)
