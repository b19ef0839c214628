"""Weight files as they come: every wrapper, and what is no weight file at all."""

from pathlib import Path

import pytest
import torch

from medvlp.checkpoints.files import open_weights

from .synthetic import LAYOUTS, make_model, published, write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_told_and_the_tensors_are_the_same(tmp_path: Path, layout: str) -> None:
    weights = published(make_model())
    file = open_weights(write(tmp_path, weights, layout))
    assert file.tensors.keys() == weights.keys()
    assert all(torch.equal(file.tensors[name], tensor) for name, tensor in weights.items())
    assert (file.layout.prefix == "module.") is layout.startswith("module")
    assert file.layout.container == ("safetensors" if layout == "safetensors" else "pytorch")
    wrappers = {"nested": ("state_dict",), "module-nested": ("state_dict",), "model": ("model",)}
    assert file.layout.wrappers == wrappers.get(layout, ())
    assert file.beside.get("epoch") == (3 if layout.endswith("nested") else None)


def test_a_compiled_model_in_data_parallel_is_unwrapped(tmp_path: Path) -> None:
    torch.save({"module._orig_mod.weight": torch.ones(1)}, tmp_path / "w.pt")
    file = open_weights(tmp_path / "w.pt")
    assert list(file.tensors) == ["weight"]
    assert str(file.layout) == "pytorch, bare, names with module._orig_mod."


def test_a_checkpoint_of_ours_gives_the_weights_of_the_model_alone(tmp_path: Path) -> None:
    state = {"model.weight": torch.ones(1), "loss.scale": torch.ones(1)}
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": state}, tmp_path / "w.ckpt")
    file = open_weights(tmp_path / "w.ckpt")
    assert list(file.tensors) == ["weight"] and file.layout.lightning


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_the_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    source = write(tmp_path, {"a": torch.ones(1)}, "bare" if "safe" in name else "safetensors")
    assert list(open_weights(source.rename(tmp_path / name)).tensors) == ["a"]


@pytest.mark.parametrize("layout", ["bare", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.6, 0.98])
def test_a_file_that_is_cut_off_is_told(tmp_path: Path, layout: str, share: float) -> None:
    path = write(tmp_path, published(make_model()), layout)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"{path.name} is .*cut off.* again"):
        open_weights(path)


def test_an_old_pickle_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(published(make_model()), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for share in (0.001, 0.02, 0.5):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ValueError, match="damaged, cut off or no PyTorch weight file"):
            open_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"nothing of the kind", "damaged, cut off or no PyTorch weight file"),
    ],
)
def test_failed_downloads_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_weights(tmp_path / "w.pt")


class Runs:
    """A pickle of this would call a function when read."""

    def __reduce__(self) -> tuple:
        return print, ("code ran",)


def test_a_file_with_code_names_what_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Runs()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"objects \(\S*print\) that would run code"):
        open_weights(tmp_path / "w.pt")
    assert "code ran" not in capsys.readouterr().out
