"""One process at a time in a folder."""

from multiprocessing import current_process
from pathlib import Path

import pytest

from medvlp.data.exclusive import exclusive


def test_a_script_without_a_guard_is_told_rather_than_left_waiting_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="__main__"), exclusive(tmp_path):
        pass


def test_a_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path):
            assert (tmp_path / ".lock").is_file()
