"""HCL-AL's published files, written from checkpoints of ours: whole, and with equal results."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from medvlp.checkpoints.__main__ import main
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.hcl_al_container import published_beside, stored_recipe
from medvlp.prediction.lesion_stage import load_stage

from ..prediction.conftest import write_checkpoint
from ..prediction.lesion_files import BESIDE, write_published

TARGET = "medvlp.data.lesion_recipe.PatchChannel"


def convert(source: Path, target: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["convert", str(source), str(target), *options, "--to", "published"])
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_trained_stage_becomes_a_whole_published_file(stage: Any, tmp_path: Path) -> None:
    ours = write_checkpoint(tmp_path / "best.ckpt", {}, experiment=f"hcl_al_{stage}")
    assert convert(ours, tmp_path / "params.pth", "--layout", "nested") == 0
    content = torch.load(tmp_path / "params.pth", weights_only=True)
    assert content.keys() == {*BESIDE, "state_dict", "heads"}
    assert content["net"] == "ClipText_ResidualNet" and content["batch"] == 3
    assert content["lesion_idx"] == [2] and content["input_channel"] == 3
    assert all(name.startswith("module.") for name in content["state_dict"])
    first = load_stage(ours, stage)
    again = load_stage(tmp_path / "params.pth", stage, compat=first.recipe.compat)
    assert again.recipe.describe()["patches"] == first.recipe.describe()["patches"]
    assert again.recipe.describe()["channels"] == first.recipe.describe()["channels"]
    patches = torch.randn(2, 3, *first.recipe.size)
    assert torch.equal(again.model.embed_lesion(patches), first.model.embed_lesion(patches))
    texts = ["in the liver", "in the left lung"]
    mine, theirs = (one.model.embed_text(one.tokenizer(texts)) for one in (first, again))
    assert torch.equal(mine, theirs)


def test_a_published_file_comes_back_as_it_was(tmp_path: Path) -> None:
    source = write_published(tmp_path / "params.pth")
    model = "text.width=4 text.depth=1 text.num_heads=1 text.embed_dim=6 text.freeze=none"
    model += " vision._target_=medvlp.vision.volume_cnn.BasicNet vision.base_channels=1"
    model += " vision.image_size=[32,16,16] image_projection.in_features=32"
    model += " image_projection.out_features=6"
    fc = "{_target_: torch.nn.Linear, in_features: 6, out_features: 6}"
    overrides = [f"model.{item}" for item in model.split()] + [f"model.text_fc={fc}"]
    target = tmp_path / "again.pth"
    options = ["--model", "hcl_al_fine", *overrides, "--layout", "nested"]
    assert convert(source, target, *options) == 0
    assert open_weights(target).beside == open_weights(source).beside == BESIDE
    bare = tmp_path / "bare.safetensors"
    save_file(open_weights(source).tensors, bare)
    assert convert(bare, tmp_path / "no.pth", *options) == 2
    assert not (tmp_path / "no.pth").exists()


def test_networks_are_named_by_what_they_were_trained_with() -> None:
    weights = open_names(["image_encoder.in_block.conv.weight", "text_encoder.token_embedding"])
    loss = {"_target_": "medvlp.losses.lesion_places.HardNegativeLoss"}
    for semi_hard, name in ((True, "SemiHardNegSample"), (False, "HardNegSample")):
        told = published_beside(weights, carried(loss=loss | {"semi_hard": semi_hard}))
        assert told["net"] == f"ClipText_BasicNet_{name}"


def test_what_published_files_cannot_say_is_refused() -> None:
    image = {"field": "image", "mean": None, "std": None, "clip": False}
    mask = {"field": "lesion_mask", "mean": 0.0, "std": 1.0, "clip": False}
    with pytest.raises(ValueError, match="by their own numbers: choose --layout module"):
        published_beside({}, carried(channels=[image, mask]))
    both = {name: {"size": [16] * 3, "spacing_mm": [1.0] * 3} for name in ("coarse", "fine")}
    with pytest.raises(ValueError, match=r"this recipe has 2 \(coarse, fine\)"):
        published_beside({}, carried(patches=both))
    bert = {"config": {"hidden_size": 64}, "pooling": "cls"}
    with pytest.raises(ValueError, match="pooled by their maximum"):
        published_beside({}, carried(text=bert))


def test_channels_of_ct_alone_come_back() -> None:
    ct = {"field": "image", "mean": 40.0, "std": 200.0, "clip": True}
    mask = {"field": "lesion_mask", "mean": 0.0, "std": 1.0, "clip": False}
    told = published_beside({}, carried(channels=[mask, ct]))
    assert told["lesion_idx"] == [0] and told["interpolation"] == ["nn", "linear"]
    fields = stored_recipe(told, "coarse").describe()["channels"]
    assert [one["field"] for one in fields] == ["lesion_mask", "image"]


def open_names(names: list[str]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(2, 3) for name in names}


def carried(**changes: Any) -> dict[str, Any]:
    """Make what a checkpoint of ours carries, as far as it matters."""
    channel = {"mean": 0.0, "std": 1.0, "clip": False}
    channels = [channel | {"field": name} for name in ("image", "pet", "lesion_mask")]
    fields = {
        "channels": changes.get("channels", channels),
        "patches": changes.get("patches", {"fine": {"size": [16] * 3, "spacing_mm": [1.0] * 3}}),
    }
    tree = {"loss": changes.get("loss", {}), "model": {"text": changes.get("text", {})}}
    return {"medvlp": {"recipe": {"fields": fields}, "config": tree}}
