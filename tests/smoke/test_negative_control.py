"""The embedded default learns from reports, and from nothing else."""

import json
import os
import subprocess
import sys

import pytest

RUN = """
import sys
from omegaconf import OmegaConf
from medvlp import config, train

tree = config.resolve(config.compose(sys.argv[2:]))
if sys.argv[1] == "shuffled":
    target = "medvlp.data.shuffled_reports.ShuffledReports"
    tree["data"]["source"] = {"_target_": target, "source": tree["data"]["source"]}
train.train(OmegaConf.create(tree))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("control")


def large_auroc(reports: str, folder) -> float:
    """Train for a minute and return the macro AUROC of the large findings, held out."""
    run = folder / reports
    overrides = [
        f"paths.data={folder}/data",
        f"paths.run={run}",
        "data.source.num_train=500",
        "data.source.num_valid=150",
        "data.source.shape=[48,48,48]",
        "trainer.max_steps=110",
        "trainer.check_val_every_n_epoch=100",
        "trainer.enable_progress_bar=false",
        "evaluation.phantom_ct_rate.num_resamples=20",
        "~evaluation.phantom_ct_rate_unseen_wording",
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, reports, *overrides],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((run / "phantom_ct_rate" / "results.json").read_text())
    (large,) = (macro for macro in results["macros"] if macro["name"] == "large")
    return large["figures"]["auroc"]["value"]


def test_it_learns_from_true_reports(folder):
    assert large_auroc("true", folder) > 0.7


def test_it_falls_to_chance_with_shuffled_reports(folder):
    assert abs(large_auroc("shuffled", folder) - 0.5) < 0.1
