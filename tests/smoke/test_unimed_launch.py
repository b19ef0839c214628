"""The Slurm script of UniMed-CLIP starts what was published: 128 pairs on each of 8 or 16 GPUs."""

import os
import subprocess
from pathlib import Path

import pytest
from hydra.utils import instantiate

from medvlp import config

SCRIPT = Path(__file__).parents[2] / "experiments" / "unimed_vitb16" / "slurm.sh"


def started(folder: Path, **variables: str) -> list[str]:
    """Run the script with a stand-in for `srun` and return the overrides it passes to training."""
    srun = folder / "srun"
    srun.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/typed"\n')
    srun.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    subprocess.run(["bash", str(SCRIPT), "seed=3"], env=environment, check=True)
    typed = (folder / "typed").read_text().splitlines()
    assert typed[:3] == ["python", "-m", "medvlp.train"]
    return typed[3:]


@pytest.mark.parametrize(("nodes", "tasks", "batch"), [(1, 8, 1024), (4, 4, 2048)])
def test_each_gpu_gets_128_pairs(
    nodes: int, tasks: int, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {
        "SLURM_NNODES": f"{nodes}",
        "SLURM_NTASKS": f"{nodes * tasks}",
        "SLURM_NTASKS_PER_NODE": f"{tasks}",
    }
    typed = started(tmp_path, **job, EXPERIMENT="unimed_vitl14_336")
    tree = config.resolve(config.compose([*typed, f"paths.run={tmp_path}"]))
    assert tree["name"] == "unimed_vitl14_336" and tree["seed"] == 3
    assert tree["data"]["batch_size"] == batch
    task = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}
    for name, value in (job | task).items():
        monkeypatch.setenv(name, value)
    on_cpu = {"accelerator": "cpu", "precision": "32-true"}
    trainer = instantiate(tree["trainer"] | on_cpu, logger=False, _convert_="all")
    assert trainer.world_size == nodes * tasks


def test_without_a_name_it_is_vit_b_16(tmp_path: Path) -> None:
    job = {"SLURM_NNODES": "1", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8"}
    assert started(tmp_path, **job)[0] == "experiment=unimed_vitb16"
