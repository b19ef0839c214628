"""The wheel carries its configuration: every experiment composes from another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COMPOSE_ALL = """
from medvlp import config
folder = config.config_dir()
assert folder.parent.name == "medvlp", folder
for file in sorted((folder / "experiment").rglob("*.yaml")):
    name = file.relative_to(folder / "experiment").with_suffix("")
    cfg = config.compose([f"experiment={name}", "paths.raw=raw"])
    if cfg.init is not None:
        cfg.init.path = "first_stage.ckpt"
    config.resolve(cfg)
    print(name)
"""


def test_every_experiment_composes_from_the_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("medvlp-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    composed = subprocess.run(
        [sys.executable, "-c", COMPOSE_ALL],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert composed.returncode == 0, composed.stderr
    experiments = (ROOT / "conf" / "experiment").rglob("*.yaml")
    assert len(composed.stdout.split()) == len(list(experiments))
