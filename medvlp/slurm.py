"""What a process can know of the Slurm job it runs in, and how the job is started again."""

import logging
import os
import subprocess
from pathlib import Path

_INTERACTIVE = ("bash", "interactive")  # the same names as Lightning's
_LOG = logging.getLogger(__name__)


def job_id() -> str | None:
    """Return the job's number, as `scontrol` takes it; None if no `srun` started this process."""
    environment = os.environ
    if "SLURM_STEP_ID" not in environment or environment.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return None
    if "SLURM_ARRAY_JOB_ID" in environment:  # the number alone may stand for the whole array
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def run_stamp(clock: str) -> str:
    """Name a run: by job and step, the same on all ranks and after a requeue; else by the clock."""
    job = job_id()
    return clock if job is None else f"job_{job}_step_{os.environ['SLURM_STEP_ID']}"


def num_restarts() -> int:
    """Count how often Slurm has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def checkpoint_of_requeued(folder: Path) -> Path | None:
    """Find what a job that was started again goes on from: the newest checkpoint of its folder.

    Args:
        folder: Of the run's checkpoints.

    Returns:
        None in a job that runs for the first time, or if there is no checkpoint.
    """
    if num_restarts() == 0:
        return None
    found = sorted(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    if found:
        _LOG.info("restart %d of the job: going on from %s", num_restarts(), found[-1])
        return found[-1]
    _LOG.warning(
        "restart %d of the job, and %s holds no checkpoint: starting over. If there should be one, "
        "start the run by srun or give it a folder that stays the same, as in "
        "paths.run=FOLDER/$SLURM_JOB_ID",
        num_restarts(),
        folder,
    )
    return None


def requeue(job: str, max_requeues: int) -> None:
    """Put the job back into the queue; Slurm then ends its processes.

    Where that fails the log says so, and how to go on by hand.

    Args:
        job: Its number.
        max_requeues: A job that was started again so often is left to end.
    """
    if num_restarts() >= max_requeues:
        _LOG.warning("job %s was started again %d times already", job, num_restarts())
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        problem = done.stderr.strip() or f"code {done.returncode}" if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        _LOG.warning("could not requeue job %s (%s); submit it once more", job, problem)
    else:
        _LOG.info("requeued job %s", job)
