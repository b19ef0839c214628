"""Runs of several stages: what is refused, what is left out, what is gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medvlp.config import ConfigError
from medvlp.stages import _filled, best_checkpoint, read_stages, run_stages

EXPERIMENT = """# @package _global_
defaults:
  - phantom/hlip_ctrate
name: in_stages
data:
  source: {num_train: 24, num_valid: 6, num_workers: 0, shape: [24, 24, 24]}
  splits: {val_fraction: 0.3}
  batch_size: 8
  recipe: {size: [48, 48, 48]}
engine: {num_workers: 0}
trainer: {max_steps: 2, check_val_every_n_epoch: 1, enable_progress_bar: false}
test: false
stages:
  first: {experiment: phantom/hlip_ctrate, overrides: [name=first]}
  second:
    experiment: phantom/hlip_ctrate
    overrides: [init=published, "init.path={first.best}", name=second]
  seen: {run: [checkpoints, inspect, "{second.best}"]}
"""
SHARED = [
    "data.source.num_train=24",
    "data.source.num_valid=6",
    "data.source.num_workers=0",
    "data.source.shape=[24,24,24]",
    "engine.num_workers=0",
    "data.splits.val_fraction=0.3",
    "data.batch_size=8",
    "trainer.enable_progress_bar=false",
    "test=false",
]


def command(folder: Path, *overrides: str) -> list[str]:
    conf = folder / "conf/experiment"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "in_stages.yaml").write_text(EXPERIMENT)
    verb = [sys.executable, "-m", "medvlp.train", "--config-dir", str(folder / "conf")]
    own = ["experiment=in_stages", f"paths.run={folder / 'a run'}"]
    return [*verb, *own, *SHARED, *overrides]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"MEDVLP_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}


def train(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *overrides),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder),
    )


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was_and_an_ended_one_is_left(tmp_path: Path) -> None:
    endless = subprocess.Popen(
        command(tmp_path, "trainer.max_steps=100000"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "a run"
    deadline = time.monotonic() + 300
    while not list(run.rglob("best.ckpt")) and time.monotonic() < deadline:
        assert endless.poll() is None, endless.communicate()[1][-3000:]
        time.sleep(0.2)
    endless.send_signal(signal.SIGINT)
    _, errors = endless.communicate(timeout=120)
    assert endless.returncode == 1
    assert "stopped at step" in errors and "stage 1 of 3, first, ended with code 1" in errors
    step = int(errors.split("stopped at step ")[1].split(";")[0])

    other = train(tmp_path, f"trainer.max_steps={step + 2}")
    assert other.returncode == 1
    assert "was begun with other arguments" in other.stderr

    record = run / "first/stage.json"  # as if those had been the arguments
    told = json.loads(record.read_text())
    told["arguments"] = [
        text.replace("max_steps=100000", f"max_steps={step + 2}") for text in told["arguments"]
    ]
    record.write_text(json.dumps(told))
    done = train(tmp_path, f"trainer.max_steps={step + 2}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "first, goes on with ckpt_path" in done.stdout
    assert f"all 3 stages have ended; everything lies in {run}" in done.stdout
    source = json.loads((run / "second/stage.json").read_text())["starts_from"]["first"]
    assert source[0] == (run / "first/checkpoints/best.ckpt").stat().st_size

    again = train(tmp_path, f"trainer.max_steps={step + 2}")
    assert again.returncode == 0
    assert again.stdout.count("ended before") == 3


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"overrides": []}}, r"stages.a has the keys \['overrides'\], expected"),
        ({"a": {"run": []}}, "stages.a has the keys"),
        ({"a": {"experiment": "x", "overrides": ["b={a.best}"]}}, r"refers to \{a.best\}"),
        ({"a": {"experiment": "x"}, "b": {"run": ["v", "{a.bst}"]}}, r"\{a.bst\}, .*\(a\)"),
    ],
)
def test_a_stage_that_cannot_be_is_named(tree: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_stages(tree, [])


def test_overrides_reach_every_experiment_but_for_those_of_the_whole_run() -> None:
    a = {"experiment": "x", "overrides": ["b=1"], "more": ["b=2"]}
    tree = {"a": a, "c": {"run": ["compare", "{a.run}"]}}
    overrides = ["experiment=all", "paths.run=R", "seed=1", "stages.a.experiment=x"]
    stages = read_stages(tree, overrides)
    assert stages[0].arguments == ("train", "experiment=x", "seed=1", "b=1", "b=2")
    assert stages[1].arguments == ("compare", "{a.run}")
    with pytest.raises(ConfigError, match=r"paths\.run=FOLDER goes on"):
        read_stages(tree, ["ckpt_path=last.ckpt"])


def test_a_file_in_the_folder_of_a_stage_is_quoted_whole(tmp_path: Path) -> None:
    tree = {
        "a": {"run": ["cache", "list", "--cache", "{a.run}/c"]},
        "b": {"experiment": "x", "overrides": ["data.table={a.run}/own/table.csv"]},
    }
    stages = read_stages(tree, [])
    assert stages[1].references == [("a", "run", "/own/table.csv")]
    run = tmp_path / "a run"
    assert _filled(stages[0], run)[-1] == f"{run}/a/c"
    assert _filled(stages[1], run)[-1] == f'data.table="{run}/a/own/table.csv"'


def test_processes_without_a_common_folder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match=r"give all of them paths\.run=FOLDER"):
        read_stages({"a": {"experiment": "x"}}, [])
    assert read_stages({"a": {"experiment": "x"}}, ["paths.run=R"])


def test_a_misspelt_override_ends_the_run_before_its_first_stage(tmp_path: Path) -> None:
    tree = {
        "a": {"run": ["cache", "list", "--cache", str(tmp_path)]},
        "b": {"experiment": "phantom/hlip_ctrate", "overrides": ["optim.rl=1"]},
    }
    with pytest.raises(ConfigError, match=r"optim\.rl"):
        run_stages(read_stages(tree, []), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_stage_that_left_nothing_when_it_was_stopped_is_begun_anew(tmp_path: Path) -> None:
    listing = ["cache", "list", "--cache", str(tmp_path)]
    start = ["init=published", "init.path={a.best}"]
    later = {"experiment": "phantom/hlip_ctrate", "overrides": start}
    stages = read_stages({"a": {"run": listing}, "b": later}, [])
    (tmp_path / "a").mkdir()
    record = {"arguments": listing, "starts_from": {}, "ended": False}
    (tmp_path / "a/stage.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="holds neither"):  # nor does the listing leave any
        run_stages(stages, tmp_path)
    assert json.loads((tmp_path / "a/stage.json").read_text())["ended"]


def test_a_failed_stage_ends_the_run_with_its_name(tmp_path: Path) -> None:
    tree = {"a": {"run": ["cache", "verify", "nothing", "--cache", str(tmp_path / "none")]}}
    with pytest.raises(SystemExit, match="stage 1 of 1, a, ended with code 1"):
        run_stages(read_stages(tree, []), tmp_path)
    assert json.loads((tmp_path / "a/stage.json").read_text())["ended"] is False


def test_what_has_ended_is_left_alone_and_other_settings_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listing = ["cache", "list", "--cache", str(tmp_path / "cache")]
    (tmp_path / "cache").mkdir()
    for _ in range(2):
        run_stages(read_stages({"a": {"run": listing}}, []), tmp_path)
    printed = capfd.readouterr().out
    assert printed.count(f"everything lies in {tmp_path / 'cache'}") == 1
    assert printed.count("stage 1 of 1, a: ended before") == 1
    with pytest.raises(ConfigError, match=r"begun with other arguments: .* delete that folder"):
        run_stages(read_stages({"a": {"run": ["doctor"]}}, []), tmp_path)


def test_a_stage_whose_start_has_changed_is_refused(tmp_path: Path) -> None:
    start = tmp_path / "a/checkpoints/best.ckpt"
    start.parent.mkdir(parents=True)
    start.touch()
    (tmp_path / "a/stage.json").write_text(
        json.dumps({"arguments": ["train", "experiment=x"], "starts_from": {}, "ended": True})
    )
    tree = {
        "a": {"experiment": "x"},
        "b": {"run": ["cache", "verify", "none", "--cache", "{a.best}"]},
    }
    stages = read_stages(tree, [])
    for message in ("stage 2 of 2, b, ended with code", "begun with other starts from"):
        with pytest.raises((SystemExit, ConfigError), match=message):
            run_stages(stages, tmp_path, config_folders=["elsewhere"])
        start.write_text("trained again")


@pytest.mark.parametrize("part", ["", "/table.csv"])
def test_a_stage_notices_that_what_it_reads_was_made_again(part: str, tmp_path: Path) -> None:
    table, record = tmp_path / "a/table.csv", tmp_path / "a/stage.json"
    table.parent.mkdir()
    table.touch()
    record.write_text(json.dumps({"arguments": ["x"], "starts_from": {}, "ended": True}))
    tree = {"a": {"run": ["x"]}, "b": {"run": ["cache", "verify", "none", f"{{a.run}}{part}"]}}
    stages = read_stages(tree, [])
    with pytest.raises(SystemExit, match="stage 2 of 2, b, ended with code"):
        run_stages(stages, tmp_path)
    file = table if part else record
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ConfigError, match=rf"begun with other starts from: \{{'a{part}'"):
        run_stages(stages, tmp_path)


def test_the_last_checkpoint_stands_in_for_the_best(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds neither best\.ckpt nor last\.ckpt"):
        best_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    assert best_checkpoint(tmp_path).name == "last.ckpt"
    (tmp_path / "checkpoints/best.ckpt").touch()
    assert best_checkpoint(tmp_path).name == "best.ckpt"
