"""Jobs in other processes: order, errors, dead processes, dead parents."""

import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from medvlp.data.engine import LocalEngine, PreparationError
from medvlp.data.readers.registry import read
from medvlp.user_errors import user_message

SLEEPERS = """
import time
from collections import deque
from medvlp.data.engine import LocalEngine
if __name__ == "__main__":
    print("started", flush=True)
    for _ in LocalEngine(2)._run_pool(time.sleep, deque([0.0] * 2 + [1.0] * 100)):
        print("done", flush=True)
"""


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes without torch, which takes most of a pool's time."""
    monkeypatch.setattr("medvlp.data.engine._start_process", os.getpid)


def pool(function, items) -> list:
    return list(LocalEngine(2)._run_pool(function, deque(items)))


def test_a_pool_gives_every_result_once(light: None) -> None:
    assert sorted(pool(abs, range(-20, 0))) == list(range(1, 21))


def test_short_work_stays_in_this_process() -> None:
    assert list(LocalEngine(2).run(lambda item: item + 1, [1, 2, 3])) == [2, 3, 4]


def test_a_users_error_in_a_process_keeps_its_one_line(light: None) -> None:
    with pytest.raises(PreparationError, match=r"absent\.nii is not there") as caught:
        pool(read, [Path("absent.nii")])
    assert user_message(caught.value) == "absent.nii is not there"


def test_a_mistake_in_the_code_keeps_its_traceback(light: None) -> None:
    with pytest.raises(ValueError, match="math domain error") as caught:
        pool(math.sqrt, [-1.0])
    assert user_message(caught.value) is None


def test_a_dead_process_is_told(light: None) -> None:
    with pytest.raises(PreparationError, match=r"one of 2 processes died.*is kept"):
        pool(os._exit, [1])


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent(sent: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(3)] == ["started\n", "done\n", "done\n"]
    if sent == signal.SIGINT:
        os.killpg(parent.pid, sent)  # as a terminal does it: to all processes
    else:
        parent.kill()
    _, told = parent.communicate(timeout=30)
    assert told.count("Traceback") == (sent == signal.SIGINT)  # the parent's own
    deadline = time.monotonic() + 10
    while _alive(parent.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(parent.pid)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
