"""HSENet's four stages go the whole way on their twins, though they are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medvlp.config import ConfigError, compose, resolve

CT_RATE = ["data.source.num_train=12", "data.source.num_valid=6", "data.batch_size=4"]
RETRIEVAL = [
    *CT_RATE,
    "evaluation.retrieval.cutoffs=[1,2]",
    "evaluation.retrieval.pools=[4]",
    "evaluation.retrieval.num_resamples=20",
    "evaluation.volume_retrieval.cutoffs=[1,2]",
    "evaluation.volume_retrieval.num_resamples=20",
    "metric=val/retrieval/text_to_image_R@2",
]
WRITING = ["system.max_new_tokens=6"]
MORE = {
    "stage1": RETRIEVAL,
    "stage2": RETRIEVAL,
    "mrg": [*CT_RATE, *WRITING, "evaluation.report_generation.num_resamples=20"],
    "vqa": [
        "data.source.num_train=12",
        "data.source.num_test=2",
        "data.batch_size=4",
        *WRITING,
        "evaluation.vqa.num_resamples=20",
    ],
}
SMALL = [
    "data.source.num_workers=0",
    "data.source.shape=[24,28,28]",
    "data.splits.val_fraction=0.3",
    "engine.num_workers=0",
    "schedule.warmup_steps=0",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
    *(
        f"+stages.{name}.more={json.dumps(more, separators=(',', ':'))}"
        for name, more in MORE.items()
    ),
]


def start(run: Path) -> "subprocess.Popen[str]":
    verb = [sys.executable, "-m", "medvlp.train"]
    return subprocess.Popen(
        [*verb, "experiment=phantom/hsenet", f"paths.run={run}", *SMALL],
        cwd=run.parent,
        env=os.environ | {"MEDVLP_DATA": str(run.parent / "data"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_from_nothing_to_tables_though_interrupted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start(run)
    while not (run / "stage2/stage.json").is_file() and first.poll() is None:
        time.sleep(0.1)
    time.sleep(1)  # until that process is there to be interrupted
    first.send_signal(signal.SIGINT)
    printed = first.communicate()[0]
    assert first.returncode and "stage 2 of 5, stage2, ended with code" in printed, printed[-3000:]

    again = start(run)
    printed = again.communicate()[0]
    assert again.returncode == 0, printed[-5000:]
    assert printed.count("ended before") == 1 and "stage 1 of 5, stage1: ended before" in printed
    assert f"all 5 stages have ended; everything lies in {run}" in printed
    assert "in eval mode" not in printed  # the towers are meant to be

    tables = ["stage1/retrieval", "stage1/volume_retrieval", "stage2/retrieval"]
    for name in (*tables, "mrg/report_generation", "vqa/vqa"):
        assert json.loads((run / name / "results.json").read_text())["macros"], name
    compared = json.loads((run / "compared/comparison.json").read_text())
    assert compared["groups"]["text_to_image"]
    for name in ("mrg/report_generation", "vqa/vqa"):
        examples = (run / name / "examples.md").read_text().splitlines()
        assert examples[0].endswith("| generated | truth |") and len(examples) == 2 + 5
    assert printed.count("5 of the texts; predictions.csv has all") == 2


@pytest.mark.parametrize("stage", ["hsenet_stage2", "hsenet_mrg", "hsenet_vqa"])
def test_a_later_stage_without_the_one_before_it_is_refused(stage: str) -> None:
    with pytest.raises(ConfigError, match=r"missing: init\.path; .* the one before it left it"):
        resolve(compose([f"experiment=phantom/{stage}"]))
