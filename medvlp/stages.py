"""A run of several stages, each a process of its own that starts where an earlier one ended.

An experiment with `stages` is such a run. Each stage has a name and either an `experiment` to
train, with `overrides`, or another verb to `run`:

    stages:
      coarse: {experiment: coarse}
      places: {run: [evaluate, predict, "--ckpt_path={coarse.best}", "paths.run={places.run}"]}
      fine: {experiment: fine, overrides: ["init.path={coarse.best}"]}

`{coarse.best}` is that stage's best checkpoint (the last one where nothing was validated), and
`{coarse.run}` its folder, `<run folder>/coarse`; `{coarse.run}/table.csv` is a file of it.
Overrides of the command line go to every stage that is trained, before its own; what is meant for
one goes into '+stages.fine.more=["key=value"]'.
Started again in the same folder, a run leaves out what has ended and goes on with the stage that
was interrupted, from its newest checkpoint.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp import config

RECORD = "stage.json"
_REFERENCE = re.compile(r"\{(\w+)\.(\w+)\}((?:/[\w.-]+)*)")
_OWN = ("experiment=", "paths.run=", "stages.", "+stages.", "~stages", "hydra")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Stage:
    """One stage as it was asked for, its references still in it.

    Attributes:
        name: Of its folder.
        arguments: Of `python -m medvlp.<verb>`, the verb first.
        trains: Whether it is an experiment, which can be resumed.
    """

    name: str
    arguments: tuple[str, ...]
    trains: bool

    @property
    def references(self) -> list[tuple[str, str, str]]:
        """List what it names of stages: name, "best" or "run", and perhaps a path in there."""
        return [found for text in self.arguments for found in _REFERENCE.findall(text)]


def read_stages(tree: Mapping[str, Any], overrides: Sequence[str]) -> list[Stage]:
    """Check the stages of an experiment.

    Args:
        tree: Stage name to `{experiment, overrides}` or `{run}`.
        overrides: Of the command line.

    Raises:
        ConfigError: If a stage is neither, or names a stage that does not come before it; if a
            single checkpoint is to be resumed; if processes do not know their common folder.
    """
    if any(text.startswith("ckpt_path=") for text in overrides):
        raise config.ConfigError(
            "ckpt_path goes on with one run, and this one has stages; paths.run=FOLDER goes on "
            "with all that is in that folder"
        )
    if "LOCAL_RANK" in os.environ and not any(text.startswith("paths.run=") for text in overrides):
        raise config.ConfigError(
            "each process would name the folder of this run of stages by its own clock; give all "
            "of them paths.run=FOLDER"
        )
    shared = [text for text in overrides if not text.startswith(_OWN)]
    stages: list[Stage] = []
    for name, entry in tree.items():
        keys = set(entry)
        if keys == {"run"} and entry["run"]:
            stage = Stage(name, tuple(map(str, entry["run"])), trains=False)
        elif "experiment" in keys and keys <= {"experiment", "overrides", "more"}:
            own = [*shared, *(entry.get("overrides") or ()), *(entry.get("more") or ())]
            stage = Stage(name, ("train", f"experiment={entry['experiment']}", *own), trains=True)
        else:
            raise config.ConfigError(
                f"stages.{name} has the keys {sorted(keys)}, expected `experiment` and perhaps "
                "`overrides` and `more`, or `run: [VERB, ARGUMENT, ...]`"
            )
        _require_known(stage, [earlier.name for earlier in stages])
        stages.append(stage)
    return stages


def _require_known(stage: Stage, earlier: Sequence[str]) -> None:
    """Refuse references to stages that do not come before."""
    for other, what, _ in stage.references:
        known = what == "run" and other in (*earlier, stage.name)
        if not known and not (what == "best" and other in earlier):
            raise config.ConfigError(
                f"stages.{stage.name} refers to {{{other}.{what}}}, expected best or run of a "
                f"stage before it ({', '.join(earlier) or 'there is none'}), or "
                f"{{{stage.name}.run}}"
            )


def run_stages(
    stages: Sequence[Stage], folder: Path, *, config_folders: Sequence[str] = ()
) -> None:
    """Run what has not ended yet, in order.

    Args:
        stages: See `read_stages`.
        folder: Of the whole run.
        config_folders: Further folders of YAML files, as the command line named them.

    Raises:
        ConfigError: If a stage does not compose, or was run before with other settings.
        SystemExit: If a stage fails.
    """
    folder = folder.absolute()
    if not config_folders:
        for stage in stages:
            if stage.trains:
                config.compose(_filled(stage, folder)[1:])
    records: dict[str, dict[str, Any]] = {}
    for number, stage in enumerate(stages, start=1):
        title = f"stage {number} of {len(stages)}, {stage.name}"
        records[stage.name] = _run_stage(stage, folder, title, config_folders)
    for name, record in records.items():
        _say(f"{name}: {record['cpu_s']:.0f} s of CPU time, {folder / name}")
    _say(f"all {len(stages)} stages have ended; everything lies in {folder}")


def _run_stage(
    stage: Stage, folder: Path, title: str, config_folders: Sequence[str]
) -> dict[str, Any]:
    """Run one stage unless it has ended; return its record."""
    own = folder / stage.name
    wanted = {"arguments": list(stage.arguments), "starts_from": _starts_from(stage, folder)}
    record = _read_record(own, wanted)
    if record.get("ended"):
        _say(f"{title}: ended before, {own}")
        return record
    command = _command(stage, folder, config_folders)
    going_on = next((text for text in command if text.startswith("ckpt_path=")), None)
    _say(f"{title}, {f'goes on with {going_on}' if going_on else f'in {own}'}")
    own.mkdir(parents=True, exist_ok=True)
    record = wanted | {"ended": False, "cpu_s": record.get("cpu_s", 0.0)}
    _write_record(own, record)
    before = _children_cpu_s()
    code = _wait(command)
    record |= {"ended": code == 0, "cpu_s": record["cpu_s"] + _children_cpu_s() - before}
    _write_record(own, record)
    if code:
        sys.exit(
            f"medvlp: {title}, ended with code {code}; its own last lines say why. The same "
            f"command with paths.run={folder} goes on from there"
        )
    return record


def _command(stage: Stage, folder: Path, config_folders: Sequence[str]) -> list[str]:
    verb, *arguments = _filled(stage, folder)
    command = [sys.executable, "-m", f"medvlp.{verb}"]
    if not stage.trains:
        return [*command, *arguments]
    own = folder / stage.name
    command += [text for path in config_folders for text in ("--config-dir", path)]
    command += [*arguments, f"paths.run={_quoted(own)}"]
    found = sorted((own / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    return [*command, f"ckpt_path={_quoted(found[-1])}"] if found else command


def _read_record(own: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a stage that was begun; nothing of one that was not.

    Raises:
        ConfigError: If it was begun with other settings, or from other weights.
    """
    file = own / RECORD
    if not file.is_file():
        return {}
    record = json.loads(file.read_text(encoding="utf-8"))
    for key, value in wanted.items():
        if record.get(key) != value:
            raise config.ConfigError(
                f"{own} was begun with other {key.replace('_', ' ')}: {record.get(key)}, and now "
                f"there are {value}; delete that folder to run the stage anew, or choose another "
                "paths.run"
            )
    return record


def _has_ended(own: Path) -> bool:
    file = own / RECORD
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["ended"]


def _write_record(own: Path, record: Mapping[str, Any]) -> None:
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        (own / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _starts_from(stage: Stage, folder: Path) -> dict[str, Any]:
    """State size and time of the files of earlier stages that a stage starts from.

    Of a stage's folder as a whole it is its record, written when the stage is run.

    Raises:
        ConfigError: If an earlier stage left no checkpoint.
    """
    facts: dict[str, Any] = {}
    for name, what, path in stage.references:
        if name == stage.name:
            continue
        run = folder / name
        file = best_checkpoint(run) if what == "best" else Path(f"{run}{path}")
        stat = (file if file.is_file() else run / RECORD).stat()
        facts[f"{name}{path}"] = [stat.st_size, stat.st_mtime_ns]
    return facts


def best_checkpoint(run: Path) -> Path:
    """Find the best checkpoint of a run, or the last where nothing was validated.

    Raises:
        ConfigError: If there is neither.
    """
    for name in ("best.ckpt", "last.ckpt"):
        if (run / "checkpoints" / name).is_file():
            return run / "checkpoints" / name
    raise config.ConfigError(
        f"{run / 'checkpoints'} holds neither best.ckpt nor last.ckpt to go on from; delete {run} "
        "to run that stage anew"
    )


def _filled(stage: Stage, folder: Path) -> list[str]:
    """Put paths in the place of references."""

    def path(found: re.Match[str]) -> str:
        run = folder / found[1]
        there = run if found[2] == "run" else run / "checkpoints" / "best.ckpt"
        if found[2] == "best" and not there.is_file() and _has_ended(run):
            there = best_checkpoint(run)
        there = Path(f"{there}{found[3]}")
        whole = stage.trains and found.string[: found.start()].endswith("=")
        return _quoted(there) if whole else str(there)

    return [_REFERENCE.sub(path, text) for text in stage.arguments]


def _quoted(path: Path) -> str:
    """Write a path as Hydra reads it, whatever characters are in it."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _wait(command: Sequence[str]) -> int:
    """Run a command, hand on the signals that this process gets, and return its code."""
    process = subprocess.Popen(command, start_new_session=True)  # Ctrl-C reaches it once, from here
    with _handing_on(process):
        return process.wait()


@contextmanager
def _handing_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda number, _: process.send_signal(number))
        for number in _SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
