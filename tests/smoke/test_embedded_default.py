"""The whole way on a twin of a few studies: write, prepare, train, test, evaluate, predict."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = [
    "data.source.num_train=24",
    "data.source.num_valid=12",
    "data.source.num_workers=0",
    "data.source.shape=[32,32,32]",
    "engine.num_workers=0",
    "data.splits.val_fraction=0.3",
    "data.batch_size=8",
    "evaluation.phantom_ct_rate.num_resamples=20",
    "evaluation.phantom_ct_rate_unseen_wording.num_resamples=20",
    "trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("twin")


def run_verb(verb: str, *arguments: str, folder: Path) -> str:
    """Run a verb in a process of its own, from another folder, and return what it printed."""
    environment = os.environ | {
        "MEDVLP_DATA": str(folder / "data"),
        "MEDVLP_OUTPUTS": str(folder / "outputs"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", f"medvlp.{verb}", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout


def run_folder(folder: Path) -> Path:
    """Return the newest run folder."""
    return sorted((folder / "outputs/phantom/hlip_ctrate").glob("20*"))[-1]


def losses(run: Path) -> list[float]:
    """Read the training losses that a run logged."""
    with open(run / "csv/metrics.csv") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.fixture(scope="module")
def trained(folder) -> tuple[Path, str]:
    printed = run_verb("train", *SMALL, "trainer.max_steps=3", folder=folder)
    return run_folder(folder), printed


def test_training_prints_all_18_findings_and_says_where_its_output_lies(trained):
    run, printed = trained
    assert "Interlobular septal thickening" in printed
    assert f"everything lies in {run}" in printed
    results = json.loads((run / "phantom_ct_rate/results.json").read_text())
    assert len(results["findings"]) + len(results["skipped"]) == 18
    assert results["provenance"]["seed"] == 0
    assert (run / "config.yaml").is_file() and (run / "provenance.json").is_file()
    assert list((run / "phantom_ct_rate").glob("*.png"))


def test_evaluate_reproduces_the_table_from_the_checkpoint_alone(trained, folder):
    run, _ = trained
    checkpoint = next((run / "checkpoints").glob("*.ckpt"))
    out = folder / "again"
    run_verb("evaluate", "test", f"--ckpt_path={checkpoint}", f"paths.run={out}", folder=folder)
    for name in ("table.md", "predictions.csv", "results.json"):
        first, again = (f / "phantom_ct_rate" / name for f in (run, out))
        assert again.read_text() == first.read_text()


def test_predict_scores_every_sample_of_the_split(trained, folder):
    run, _ = trained
    checkpoint = next((run / "checkpoints").glob("*.ckpt"))
    out = folder / "predicted"
    run_verb("evaluate", "predict", f"--ckpt_path={checkpoint}", f"paths.run={out}", folder=folder)
    with open(out / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len({row["sample_id"] for row in rows}) == len(rows) >= 12
    assert all(0 <= float(row["Cardiomegaly"]) <= 1 for row in rows)


def test_print_config_shows_the_tree_in_lightning_terms(trained, folder):
    printed = run_verb(
        "evaluate", "test", "--experiment=phantom/hlip_ctrate", "--print_config", folder=folder
    )
    assert "class_path: medvlp.systems.contrastive.ContrastiveSystem" in printed


def test_a_sweep_runs_its_jobs_and_prints_both_metrics(trained, folder):
    printed = run_verb(
        "train",
        "-m",
        "optim.lr=1e-4,3e-4",
        *SMALL,
        "trainer.max_steps=1",
        "test=false",
        folder=folder,
    )
    assert printed.count("val/phantom_ct_rate/auroc_macro_large = ") == 2


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_like_one(trained, folder, strategy):
    run_verb(
        "train",
        *SMALL,
        "trainer.max_steps=3",
        "trainer.log_every_n_steps=1",
        "test=false",
        folder=folder,
    )
    alone = losses(run_folder(folder))
    run_verb(
        "train",
        *SMALL,
        "trainer.max_steps=3",
        "trainer.log_every_n_steps=1",
        "test=false",
        f"strategy={strategy}",
        "trainer.devices=2",
        folder=folder,
    )
    assert losses(run_folder(folder)) == pytest.approx(alone, abs=1e-5)
    assert len(alone) == 3


def test_misspelt_overrides_and_unwritable_outputs_end_with_one_line(folder):
    command = [sys.executable, "-m", "medvlp.train"]
    done = subprocess.run([*command, "optim.rl=1"], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith("medvlp: there is no key 'optim.rl'")
    blocked = folder / "file"
    blocked.write_text("not a folder")
    done = subprocess.run(
        [*command, f"paths.outputs={blocked}/runs"], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"medvlp: cannot write to {blocked}")
