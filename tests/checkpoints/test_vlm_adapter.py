"""HSENet's adapter, in and out: strict, by name, bit by bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.conversion import Names, convert_file
from medvlp.checkpoints.files import open_weights, read_weights
from medvlp.checkpoints.hsenet_vlm import PEFT_PREFIX, published_adapter, vlm_table
from medvlp.checkpoints.systems import load_weights, recognise
from medvlp.checkpoints.verification import verify_file
from medvlp.checkpoints.vlm_adapter import AdapterInit, adapter_start, load_adapter
from tests.checkpoints.vlm_trees import logits_of, make_trained, vlm_tree, write_base
from tests.models.tiny_vlm import make_vlm

pytest.importorskip("peft")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def write_towers(model: torch.nn.Module, file: Path) -> Path:
    """Write both towers under their published names."""
    names = vlm_table(model)
    towers = {n: t for n, t in model.state_dict().items() if n.split(".")[0].endswith("vision")}
    save_file(to_published(towers, names), file)
    return file


def test_a_published_adapter_gives_the_same_model_and_the_same_file(base: Path) -> None:
    trained, other = make_trained(base), make_trained(base)
    for parameter in other.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()
    adapter = published_adapter(trained)
    assert all(name.startswith(f"{PEFT_PREFIX}model.") for name in adapter)
    assert load_adapter(other, adapter).complete
    assert torch.equal(logits_of(other), logits_of(trained))
    again = published_adapter(other)
    assert again.keys() == adapter.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in adapter.items())


def test_it_is_converted_bit_by_bit_both_ways(base: Path, tmp_path: Path) -> None:
    adapter = {name: t.half() for name, t in published_adapter(make_trained(base)).items()}
    torch.save(adapter, tmp_path / "pytorch_model.bin")
    system, ours, facts = recognise(adapter)
    assert system is not None and system.name == "hsenet_adapter" and not ours
    assert facts["language LoRA"] == "rank 2" and facts["packers"] == 2
    steps: list[tuple[str, str, Names]] = [
        ("pytorch_model.bin", "ours.safetensors", "ours"),
        ("ours.safetensors", "back.bin", "published"),
    ]
    for source, target, names in steps:
        file = open_weights(tmp_path / source)
        convert_file(file, tmp_path / target, vlm_tree(None), names=names)
    back = read_weights(tmp_path / "back.bin")
    assert back.keys() == adapter.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in adapter.items())


def test_it_is_an_init_with_the_towers_of_another_file(base: Path, tmp_path: Path) -> None:
    trained, fresh = make_trained(base), make_trained(base)
    torch.nn.init.zeros_(fresh.vision.get_parameter("pos_embed"))
    as_peft_writes = {
        name.replace(".default.", "."): tensor
        for name, tensor in published_adapter(trained).items()
    }
    save_file(as_peft_writes, tmp_path / "adapter.safetensors")
    towers = write_towers(trained, tmp_path / "towers.safetensors")
    AdapterInit(str(tmp_path / "adapter.safetensors"), str(towers))(fresh)
    assert torch.equal(logits_of(fresh), logits_of(trained))
    file = open_weights(tmp_path / "adapter.safetensors")
    run: dict[str, Any] = {"model": vlm_tree(base), "init": {"path": "second_stage.ckpt"}}
    start = adapter_start(file, run)
    assert start is not None and start["towers"] == "second_stage.ckpt"
    assert adapter_start(open_weights(towers), run) is None
    with pytest.raises(ValueError, match="would start at random"):
        adapter_start(file, {"model": vlm_tree(None)})


def test_adapters_and_whole_models_are_verified(base: Path, tmp_path: Path) -> None:
    model = make_trained(base)
    save_file(published_adapter(model), tmp_path / "adapter.safetensors")
    told = verify_file(open_weights(tmp_path / "adapter.safetensors"), vlm_tree(base))
    assert told["fits"] and "an adapter, over towers" in told["verdict"]
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    told = verify_file(open_weights(tmp_path / "whole.pt"), vlm_tree(base))
    assert told["fits"] and len(told["fingerprint"]["image"]) == 2


def test_what_does_not_fit_is_told(base: Path, tmp_path: Path) -> None:
    model = make_trained(base)
    adapter = published_adapter(model)
    name = f"{PEFT_PREFIX}model.mm_projector2.proj_mpls.0.bias"
    with pytest.raises(CheckpointMismatchError, match=r"1 missing here.*guided_packer\.projection"):
        load_adapter(model, {n: t for n, t in adapter.items() if n != name})
    extra = {f"{PEFT_PREFIX}model.layers.9.mlp.down_proj.lora_A.default.weight": torch.ones(2)}
    with pytest.raises(CheckpointMismatchError, match="1 unexpected"):
        load_adapter(model, adapter | extra)
    with pytest.raises(CheckpointMismatchError, match=r"adapter alone: choose init=adapter"):
        load_weights(model, adapter)
    file = tmp_path / "adapter.safetensors"
    save_file(adapter, file)
    with pytest.raises(ValueError, match=r"no image towers; .*init\.towers=FILE"):
        AdapterInit(str(file))(model)
    with pytest.raises(ValueError, match="fills an HSENetVLM, a Linear came"):
        AdapterInit(str(file))(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="is no adapter"):
        AdapterInit(str(write_towers(model, tmp_path / "towers.safetensors")))(model)
    with pytest.raises(FileNotFoundError, match="no adapter at"):
        AdapterInit(str(tmp_path / "none.bin"))
    without = make_vlm()
    with pytest.raises(CheckpointMismatchError, match="unexpected"):
        load_adapter(without, adapter)
