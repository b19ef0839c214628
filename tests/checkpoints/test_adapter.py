from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    Rule,
    RuleTable,
    load_published,
    nested,
    scalar_to_vector,
    to_published,
    vector_to_scalar,
)
from medvlp.checkpoints.files import read_weights, unwrap

TABLE = RuleTable(
    (
        Rule("scale", "scale", scalar_to_vector, vector_to_scalar),
        *nested([Rule("kernel", "weight"), Rule("{rest}", "{rest}")], "net.fc.", "linear."),
    ),
    aliases={r"\.core$": ".kernel"},
    ignored={r"net\.position_ids": lambda tensor: True},
)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.ones(1))


def published() -> dict[str, Tensor]:
    return {
        "scale": torch.tensor(2.5),
        "net.fc.kernel": torch.randn(3, 2),
        "net.fc.bias": torch.randn(3),
    }


def test_the_round_trip_is_bit_exact() -> None:
    model, source = Model(), published()
    report = load_published(model, source, TABLE)
    exported = to_published(model.state_dict(), TABLE)
    assert report.complete and report.loaded == ["linear.bias", "linear.weight", "scale"]
    assert report.renamed["net.fc.kernel"] == "linear.weight"
    assert exported.keys() == source.keys()
    for name, tensor in source.items():
        assert torch.equal(exported[name], tensor) and exported[name].shape == tensor.shape


def test_aliases_and_harmless_names_are_accepted() -> None:
    source = published() | {"net.position_ids": torch.arange(4)}
    source["net.fc.core"] = source.pop("net.fc.kernel")
    report = load_published(Model(), source, TABLE)
    assert report.complete and report.ignored == ["net.position_ids"]


def test_strict_loading_is_all_or_nothing_and_names_everything() -> None:
    model, source = Model(), published() | {"surprise": torch.zeros(1)}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source["net.fc.kernel"] = torch.zeros(2, 2)
    del source["net.fc.bias"]
    with pytest.raises(CheckpointMismatchError) as caught:
        load_published(model, source, TABLE)
    message = str(caught.value)
    assert "1 missing" in message and "linear.bias" in message
    assert "1 unexpected" in message and "surprise" in message
    assert "linear.weight: (2, 2) came, (3, 2) was expected" in message
    assert "strict=False" in message
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_loose_loading_takes_what_fits() -> None:
    model, source = Model(), published()
    del source["net.fc.bias"]
    report = load_published(model, source, TABLE, strict=False)
    assert report.missing == ["linear.bias"] and not report.complete
    assert torch.equal(model.linear.weight, source["net.fc.kernel"])


def test_two_tensors_for_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match=r"claim linear\.weight"):
        load_published(Model(), published() | {"net.fc.weight": torch.zeros(3, 2)}, TABLE)


def test_what_was_never_published_cannot_be_exported() -> None:
    with pytest.raises(ValueError, match="has no name in the published format"):
        to_published({"other": torch.zeros(1)}, TABLE)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
        lambda weights: {"epoch": 3, "state_dict": weights, "optimizer": {"lr": 1.0}},
        lambda weights: {"model": {"state_dict": weights}},
    ],
    ids=["bare", "parallel", "training", "nested"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_all_known_wrappings_are_opened(tmp_path: Path, wrap, legacy: bool) -> None:
    source = published()
    torch.save(wrap(source), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    weights = read_weights(tmp_path / "w.pt")
    assert weights.keys() == source.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in source.items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    source = published()
    save_file(
        {f"module.{name}": tensor for name, tensor in source.items()}, tmp_path / "w.safetensors"
    )
    assert read_weights(tmp_path / "w.safetensors").keys() == source.keys()


class Runs:
    """A pickle of this would call a function when read."""

    def __reduce__(self) -> tuple:
        return print, ("code ran",)


def test_files_with_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"state_dict": published(), "extra": Runs()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="would run code"):
        read_weights(tmp_path / "w.pt")
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weight file at"):
        read_weights(tmp_path / "none.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}])
def test_files_without_weights_are_refused(content: Mapping) -> None:
    with pytest.raises(ValueError, match="state dict"):
        unwrap(content)
