"""Ctrl-C leaves a checkpoint that training goes on from."""

import os
import signal
import subprocess
import sys
import time

from tests.smoke.test_embedded_default import SMALL, losses, run_folder, run_verb


def test_ctrl_c_writes_a_checkpoint_to_resume_from(tmp_path):
    environment = os.environ | {
        "MEDVLP_DATA": str(tmp_path / "data"),
        "MEDVLP_OUTPUTS": str(tmp_path / "outputs"),
        "OMP_NUM_THREADS": "1",
    }
    endless = [*SMALL, "trainer.max_steps=100000", "trainer.log_every_n_steps=1"]
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "medvlp.train",
            *endless,
        ],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    outputs = tmp_path / "outputs"
    deadline = time.monotonic() + 300
    while not list(outputs.rglob("last.ckpt")) and time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()[1][-3000:]
        time.sleep(0.2)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "medvlp: stopped at step" in errors, errors[-3000:]

    checkpoint = run_folder(tmp_path) / "checkpoints" / "interrupted.ckpt"
    step = int(errors.split("stopped at step ")[1].split(";")[0])
    run_verb(
        "train", *SMALL, f"ckpt_path={checkpoint}", f"trainer.max_steps={step + 2}",
        "trainer.log_every_n_steps=1", "test=false",
        folder=tmp_path,
    )  # fmt: skip
    assert len(losses(run_folder(tmp_path))) == 2
