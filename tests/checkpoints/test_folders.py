"""Folders of weights: every form, nothing followed out of them, and what is wrong with them."""

import json
from pathlib import Path

import pytest
import torch

from medvlp import evaluate
from medvlp.callbacks.results_writer import file_hash
from medvlp.checkpoints.files import open_weights
from medvlp.config import ConfigError

from .hsenet_files import write_folder

WEIGHTS = {"a": torch.arange(3.0), "b": torch.ones(2), "c": torch.zeros(1)}
FORMS = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model_params.bin",
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_and_private_paths_are_told_once(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "released", WEIGHTS, form)
    files = [open_weights(folder) for _ in range(2)]
    assert all(torch.equal(files[0].tensors[name], tensor) for name, tensor in WEIGHTS.items())
    assert len(files[0].tensors) == len(WEIGHTS) and len(caplog.messages) == 1
    assert "pretrained_model=/home/someone/stage1" in caplog.text
    assert "never read: training_args.bin" in caplog.text
    assert files[0].size == sum(part.stat().st_size for part in files[0].parts)
    if ".index" not in form:
        assert file_hash(folder) == file_hash(folder / form)


def test_one_form_is_chosen_and_the_other_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "two", {"other": torch.ones(1)}, "model_params.bin")
    write_folder(folder, WEIGHTS)
    assert set(open_weights(folder).tensors) == set(WEIGHTS)
    assert "not read: model_params.bin" in caplog.text


def test_a_damaged_config_is_not_needed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "released", WEIGHTS)
    (folder / "config.json").write_text("{cut off")
    assert open_weights(folder).beside["model_type"] == "config.json is damaged"


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "released", WEIGHTS)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"released holds no weights .*config\.json"):
        open_weights(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="it holds no file"):
        open_weights(tmp_path / "empty")


def test_parts_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "released", WEIGHTS, FORMS[1])
    index = folder / FORMS[1]
    good = index.read_text()
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 files, 1 of which .*part-1\.safetensors"):
        open_weights(folder)
    for name in ("../part-0.safetensors", str(folder / "part-0.safetensors")):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(FileNotFoundError, match="1 of which are not there"):
            open_weights(folder)
    index.write_text(good.replace("part-1", "part-0"))
    with pytest.raises(ValueError, match=r"1 tensors of its index are in none .*\(b\)"):
        open_weights(folder)
    for text in ("{", "[]", '{"weight_map": []}'):
        index.write_text(text)
        with pytest.raises(ValueError, match="no index of weight files"):
            open_weights(folder)


def test_pickled_arguments_are_refused_as_weights(tmp_path: Path) -> None:
    torch.save({"arguments": Path("x")}, tmp_path / "training_args.bin")
    with pytest.raises(ValueError, match=r"training_args\.bin is not a plain weight file"):
        open_weights(tmp_path / "training_args.bin")


def test_a_folder_needs_an_experiment_to_be_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder.* name one with --experiment=NAME"):
        evaluate.evaluation_tree(None, str(tmp_path), [])
