"""UniMed-CLIP's twin goes the whole way: write shards and sets, train, test, evaluate again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = [
    "unimed_twin.training.num_train=60",
    "unimed_twin.training.num_test=12",
    "unimed_twin.training.size=24",
    "unimed_twin.validation.num_test=1",
    "unimed_twin.validation.size=24",
    "unimed_twin.test.num_test=1",
    "unimed_twin.test.size=24",
    "data.batch_size=12",
    "trainer.max_steps=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=2",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    *(f"evaluation.{name}.num_resamples=20" for name in ("by_modality", "unimed21", "retrieval")),
]
SHUFFLED = """
import sys
from omegaconf import OmegaConf
from medvlp import config, train

tree = config.resolve(config.compose(sys.argv[1:]))
target = "medvlp.data.shuffled_captions.ShuffledCaptions"
tree["data"]["train"] = [{"_target_": target, "sets": tree["data"]["train"]}]
train.train(OmegaConf.create(tree))
"""


def run(command: list[str], folder: Path) -> None:
    environment = os.environ | {
        "MEDVLP_DATA": str(folder / "data"),
        "MEDVLP_OUTPUTS": str(folder / "outputs"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]


def test_from_nothing_to_tables_and_again_from_the_checkpoint(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    experiment = "experiment=phantom/unimed_vitb16"
    run(["-m", "medvlp.train", experiment, *SMALL, f"paths.run={first}"], tmp_path)
    results = json.loads((first / "unimed21" / "results.json").read_text())
    rows = {macro["name"]: macro["figures"] for macro in results["macros"]}
    assert rows["mean"]["n_sets"]["value"] == 21
    assert results["num_samples"] > 60
    retrieval = json.loads((first / "retrieval" / "results.json").read_text())
    assert retrieval["num_samples"] == 12
    checkpoint = next((first / "checkpoints").glob("*.ckpt"))
    again_run = [f"--ckpt_path={checkpoint}", f"paths.run={again}"]
    run(["-m", "medvlp.evaluate", "test", *again_run], tmp_path)
    for name in ("by_modality", "unimed21", "retrieval"):
        table = Path(name) / "table.md"
        assert (again / table).read_text() == (first / table).read_text()


@pytest.mark.slow
def test_it_falls_to_chance_with_shuffled_captions(tmp_path):
    overrides = [
        "experiment=phantom/unimed_vitb16",
        f"paths.run={tmp_path}/run",
        "unimed_twin.training.num_train=1200",
        "trainer.max_steps=120",
        "trainer.check_val_every_n_epoch=100",
        "trainer.enable_progress_bar=false",
    ]
    run(["-c", SHUFFLED, *overrides], tmp_path)
    results = json.loads((tmp_path / "run" / "by_modality" / "results.json").read_text())
    rows = {macro["name"]: macro["figures"] for macro in results["macros"]}
    chance = sum(rows[name]["chance"]["value"] for name in rows if name.startswith("all_")) / 6
    assert abs(rows["mean"]["acc"]["value"] - chance) < 0.08
