import subprocess
import sys
from pathlib import Path

import pytest

from medvlp.train import with_run_folder


def test_a_chosen_run_folder_is_made_known_to_hydra() -> None:
    assert with_run_folder(["seed=1"]) == ["seed=1"]
    chosen = with_run_folder(["paths.run=a b", "seed=1"])
    assert chosen == ["paths.run=a b", "seed=1", "hydra.run.dir=a b"]
    for option in ("-m", "--multirun"):
        with pytest.raises(ValueError, match=r"hydra\.sweep\.dir=FOLDER"):
            with_run_folder([option, "paths.run=a", "seed=1,2"])


def test_the_run_lies_where_it_was_asked_to(tmp_path: Path) -> None:
    wanted = tmp_path / "chosen"
    done = subprocess.run(
        [sys.executable, "-m", "medvlp.train", f"paths.run={wanted}", "data.source.num_train=-1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and "one training study" in done.stderr  # ends before any work
    assert (wanted / "config.yaml").is_file()
    assert f"run: {wanted}" in (wanted / "config.yaml").read_text()
