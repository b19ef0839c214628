"""Bad input as a user meets it: one clear line, or a skip that is counted and named.

Readers and tables have unit tests of their own for many more kinds of damage.
"""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlp import config, evaluate
from medvlp.phantom.ct_rate import write_ct_rate_twin
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.prepare import prepare
from medvlp.train import train
from medvlp.user_errors import one_line_errors, user_message

# Lightning's remarks on runs as tiny as these
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")
SCAN = "train/train_1/train_1_a/train_1_a_1.nii.gz"
TABLES = {
    "metadata": "metadata/train_metadata.csv",
    "reports": "radiology_text_reports/train_reports.csv",
    "labels": "multi_abnormality_labels/train_predicted_labels.csv",
}
TINY = [
    "data.batch_size=2",
    "data.num_workers=0",
    "data.splits.val_fraction=0.3",
    "evaluation.phantom_ct_rate.num_resamples=20",
    "~evaluation.phantom_ct_rate_unseen_wording",
    "trainer.enable_progress_bar=false",
    "trainer.max_steps=1",
]
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("raw") / "twin"
    return write_ct_rate_twin(root, TwinParameters(12, 6, shape=(32, 32, 32)))


@pytest.fixture
def spoilt(twin: Path, tmp_path: Path) -> Path:
    """Return a copy of the twin's data set for a test to spoil."""
    shutil.copytree(twin / "dataset", tmp_path / "raw" / "dataset")
    return tmp_path / "raw" / "dataset"


def source(raw: Path, folder: Path) -> list[str]:
    return [
        "data=ct_rate",
        "data/recipe=phantom_chest_ct",
        f"paths.raw={raw}",
        f"paths.cache={folder / 'cache'}",
        "engine.num_workers=0",
    ]


def prepare_raw(raw: Path, folder: Path):
    with one_line_errors():
        return prepare(config.compose([*source(raw, folder), "montage_scans=0"], "prepare"))


def train_raw(raw: Path, folder: Path, *overrides: str) -> None:
    run = f"paths.run={folder / 'run'}"
    with one_line_errors():
        train(config.compose([*source(raw, folder), *TINY, run, "test=false", *overrides]))


def evaluate_raw(raw: Path, folder: Path, *overrides: str) -> None:
    arguments = ["test", "--experiment=phantom/hlip_ctrate", f"paths.run={folder / 'run'}"]
    with one_line_errors():
        evaluate.run([*arguments, *source(raw, folder), *TINY, *overrides])


VERBS = {"prepare": prepare_raw, "train": train_raw, "evaluate": evaluate_raw}


def edit(path: Path, change: Callable[[Rows], Rows]) -> None:
    with path.open(newline="") as file:
        rows = change(list(csv.DictReader(file)))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def of_session(row: dict[str, str]) -> bool:
    return row["VolumeName"].startswith("train_1_a_")


def told(error: pytest.ExceptionInfo[SystemExit]) -> str:
    """Return the line that the process ends with; code 1 follows from its being text."""
    assert isinstance(error.value.code, str)
    assert error.value.code.startswith("medvlp: ") and "\n" not in error.value.code
    return error.value.code


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_data_root(verb: str, tmp_path: Path):
    with pytest.raises(SystemExit) as error:
        VERBS[verb](tmp_path / "absent", tmp_path)
    assert f"no CT-RATE under {tmp_path / 'absent'}" in told(error)
    assert "Request access at" in told(error) and "medvlp.phantom ct_rate" in told(error)


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_table(table: str, spoilt: Path, tmp_path: Path):
    (spoilt / TABLES[table]).write_text("")
    with pytest.raises(SystemExit) as error:
        prepare_raw(spoilt, tmp_path)
    assert f"{TABLES[table]} is empty; columns expected: VolumeName" in told(error)


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_label_column(verb: str, spoilt: Path, tmp_path: Path):
    path = spoilt / TABLES["labels"]
    path.write_text(path.read_text().replace("Cardiomegaly", "Cardiomegali", 1))
    with pytest.raises(SystemExit) as error:
        VERBS[verb](spoilt, tmp_path)
    advice = "has no column 'Cardiomegaly'; did you mean 'Cardiomegali'?; columns found: Volume"
    assert advice in told(error)


def test_a_batch_of_one(twin: Path, tmp_path: Path):
    with pytest.raises(SystemExit) as error:
        train_raw(twin, tmp_path, "data.batch_size=1")
    assert "holds 1 study; a contrastive loss needs at least two" in told(error)
    assert "raise data.batch_size" in told(error)


def test_a_key_that_does_not_exist(twin: Path, tmp_path: Path):
    for name in ("train", "prepare"):
        with pytest.raises(SystemExit) as error:
            config.check_command_line(["data.batchsize=2"], name)
        assert "no key 'data.batchsize' in the configuration; did you mean data.bat" in told(error)
    with pytest.raises(SystemExit) as error:
        evaluate_raw(twin, tmp_path, "data.batchsize=2")
    assert "did you mean data.batch_size" in told(error)


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """Return a folder that cannot be made: whoever runs the tests may be allowed everything."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


@pytest.mark.parametrize("verb", VERBS)
def test_a_cache_that_cannot_be_written(verb: str, twin: Path, blocked: Path):
    with pytest.raises(SystemExit) as error:
        VERBS[verb](twin, blocked) if verb == "prepare" else VERBS[verb](
            twin, blocked.parents[1], f"paths.cache={blocked}"
        )
    assert f"cannot write to {blocked}" in told(error) and "set paths.cache=" in told(error)


def test_results_that_cannot_be_written_are_noticed_first(
    twin: Path, tmp_path: Path, blocked: Path
):
    with pytest.raises(SystemExit) as error:
        evaluate_raw(twin, tmp_path, f"paths.run={blocked}")
    assert f"cannot write to {blocked.parent} (Not a directory)" in told(error)
    for name in ("train", "prepare"):
        with pytest.raises(SystemExit) as error:
            config.check_command_line([f"paths.outputs={blocked}"], name)
        assert f"cannot write to {blocked.parent}" in told(error)
    assert not (tmp_path / "cache").exists()


def test_a_checkpoint_that_is_none(tmp_path: Path):
    (tmp_path / "a.ckpt").write_text("text")
    for name, message in (("a.ckpt", "is no checkpoint of ours"), ("b.ckpt", "no checkpoint")):
        with pytest.raises(SystemExit) as error, one_line_errors():
            evaluate.run(["test", f"--ckpt_path={tmp_path / name}"])
        assert message in told(error)


# --- counted, named skips ---------------------------------------------------------------------


def cut_file(dataset: Path) -> None:
    content = (dataset / SCAN).read_bytes()
    (dataset / SCAN).write_bytes(content[: len(content) // 2])


def nan_voxels(dataset: Path) -> None:
    image = nib.Nifti1Image.from_filename(dataset / SCAN)
    array = np.asarray(image.dataobj).astype(np.float32)
    array[0, 0, :5] = np.nan
    nib.save(nib.Nifti1Image(array, image.affine), dataset / SCAN)


def report_alone(dataset: Path) -> None:
    added = "train_999_a_1.nii.gz"
    edit(dataset / TABLES["reports"], lambda rows: [*rows, rows[0] | {"VolumeName": added}])


def no_report(dataset: Path) -> None:
    edit(dataset / TABLES["reports"], lambda rows: [row for row in rows if not of_session(row)])


def no_file(dataset: Path) -> None:
    (dataset / SCAN).unlink()


SKIPS = {
    "truncated": (cut_file, SCAN, "it is truncated or its header is wrong"),
    "NaN": (nan_voxels, SCAN, "voxels are NaN or infinite; mend the file or leave it out"),
    "report alone": (report_alone, "train_999_a_1.nii.gz", "a report without a volume"),
    "no report": (no_report, "train_1_a", "a volume without a report: not for training"),
    "no file": (no_file, "train_1_a_1.nii.gz", "listed in the tables, but the file is not there"),
}


@pytest.mark.parametrize("case", SKIPS)
def test_what_is_left_out_is_counted_and_named(case: str, spoilt: Path, tmp_path: Path, capsys):
    spoil, name, reason = SKIPS[case]
    spoil(spoilt)
    manifest = prepare_raw(spoilt, tmp_path)
    listed = manifest.folder / "quarantine.csv"
    assert f"left out or changed: 1, named in {listed}" in capsys.readouterr().out
    ((path, why),) = list(csv.reader(listed.read_text().splitlines()))[1:]
    assert path.endswith(name) and reason in why
    assert sum(manifest.skips.values()) == 1 and manifest.counts["studies"] >= 17


def test_training_tells_what_it_left_out_while_preparing(spoilt: Path, tmp_path: Path, caplog):
    cut_file(spoilt)
    no_report(spoilt)
    train_raw(spoilt, tmp_path)
    assert "left out or changed in ct_rate: 2, named in" in caplog.text
    assert "quarantine.csv" in caplog.text and "training studies have no text" in caplog.text


def test_texts_of_5000_words_are_cut_with_one_warning(spoilt: Path, tmp_path: Path, caplog):
    long = {"Findings_EN": "nodule " * 5000, "Impressions_EN": "Atelectasis " * 5000}
    for table in (TABLES["reports"], "radiology_text_reports/validation_reports.csv"):
        edit(spoilt / table, lambda rows: [row | long for row in rows])
    train_raw(spoilt, tmp_path)
    evaluate_raw(spoilt, tmp_path, "data.num_workers=2")  # counted over both, warned of once
    cuts = [r.getMessage() for r in caplog.records if "texts were longer than" in r.getMessage()]
    assert [cut.split(":")[0] for cut in cuts] == ["fit", "validate", "test"]
    assert cuts[0].startswith("fit: 2 of 2 texts were longer than the tokenizer's context")
    assert "raise tokenizer.context_length" in cuts[-1]
    told_of, of = cuts[-1].split(" texts")[0].removeprefix("test: ").split(" of ")
    assert told_of == of and int(of) >= 6


# --- the rule ---------------------------------------------------------------------------------


def test_mistakes_in_the_code_keep_their_traceback(monkeypatch):
    with pytest.raises(ValueError, match="invalid literal"), one_line_errors():
        int("x")  # a ValueError, but not one that was written for the user
    with pytest.raises(SystemExit, match=r"medvlp: \[Errno 2\]"), one_line_errors():
        Path("/nowhere/file").read_text()
    monkeypatch.setenv("MEDVLP_DEBUG", "1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(config.ConfigError), one_line_errors():
        config.compose(["optim.rl=1"])


def test_the_place_of_what_cannot_be_built_is_told():
    from hydra.utils import instantiate

    tree = {"splits": {"_target_": "medvlp.data.splits.Splits", "val_fraction": 2.0}}
    with pytest.raises(Exception, match="val_fraction") as error:
        instantiate(tree)
    assert user_message(error.value) == (
        "val_fraction is 2.0, expected 0 or more and less than 1 (at splits of the configuration)"
    )


def test_the_verb_itself_ends_with_the_line_and_code_1(tmp_path: Path):
    overrides = [*source(tmp_path / "absent", tmp_path), *TINY, f"paths.outputs={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "medvlp.train", *overrides],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("medvlp: no CT-RATE under")
