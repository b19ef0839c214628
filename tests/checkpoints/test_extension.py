"""Weights of fVLM for other organs than they were trained with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medvlp.checkpoints.__main__ import main
from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.fvlm import FVLM_TABLE
from medvlp.checkpoints.model_configs import build_model, model_tree
from medvlp.checkpoints.systems import load_weights
from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.models.fvlm import FVLM

TINY = [
    "model.vision.patch_embed.embed_dim=16",
    "model.vision.patch_embed.patch_size=[2,4,4]",
    "model.vision.grid=[2,2,2]",
    "model.vision.depth=3",
    "model.vision.taps=[1,2]",
    "model.vision.num_heads=2",
    "model.text.config.vocab_size=20",
    "model.text.config.hidden_size=8",
    "model.text.config.num_hidden_layers=1",
    "model.text.config.num_attention_heads=2",
    "model.text.config.intermediate_size=16",
    "model.text.config.max_position_embeddings=12",
    "model.text_projection.in_features=8",
    "model.pooling.dim=16",
]
OLD = ["lung", "heart", "esophagus", "aorta"]
NEW = ["aorta", "liver", "lung", "heart", "spleen"]
ORGANS = f"model.pooling.organs=[{','.join(NEW)}]"


def make(organs: list[str], seed: int = 0) -> FVLM:
    torch.manual_seed(seed)
    model = build_model(
        model_tree("fvlm_vit_base", [*TINY, f"model.pooling.organs=[{','.join(organs)}]"])
    )
    assert isinstance(model, FVLM)
    torch.nn.init.normal_(model.pooling.query)
    return model.eval()


def published(folder: Path, seed: int = 0) -> Path:
    weights = to_published(make(OLD, seed).state_dict(), FVLM_TABLE)
    torch.save({"model": weights, "epoch": 3}, folder / "model.pth")
    return folder / "model.pth"


def run(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def extend(folder: Path, *more: str) -> int:
    given = ("extend", published(folder), folder / "more.pt", "--model", "fvlm_vit_base")
    return run(*given, *TINY, *more)


def embed(model: FVLM, image: torch.Tensor, place: dict[str, int]) -> torch.Tensor:
    """Embed organs whose voxels have the labels of `place`, each in its own window."""
    mask = torch.zeros(2, *image.shape[2:], dtype=torch.uint8)
    for number, organ in enumerate(model.organs, start=1):
        if organ in place:
            mask[:, :, place[organ] : place[organ] + 2] = number
    return embed_organs(
        model.embed_image,
        image,
        mask,
        num_organs=len(model.organs),
        window=(4, 8, 8),
        multiple=(2, 4, 4),
    )


def test_shared_organs_are_embedded_as_before_bit_for_bit(tmp_path: Path, capsys) -> None:
    assert extend(tmp_path, ORGANS, "--organs", ",".join(OLD), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == ["aorta", "lung", "heart"]
    assert told["new"] == ["liver", "spleen"] and told["dropped"] == ["esophagus"]
    old, new = make(OLD), make(NEW, seed=7)
    load_weights(new, tmp_path / "more.pt")
    image = torch.rand(2, 1, 6, 12, 8)
    places = {"lung": 0, "heart": 3, "aorta": 9, "liver": 6, "spleen": 10}
    before, after = embed(old, image, places), embed(new, image, places)
    for organ in told["kept"]:
        same = after[:, new.organs.index(organ)], before[:, old.organs.index(organ)]
        assert torch.equal(*same) and not same[0].isnan().any()
    assert not new.pooling.query[1].any() and not new.pooling.query[4].any()


def test_what_new_organs_start_from_follows_the_seed(tmp_path: Path) -> None:
    rows = []
    for seed in (0, 0, 1):
        options = ("--organs", ",".join(OLD), "--seed", str(seed), "--force")
        assert extend(tmp_path, ORGANS, *options) == 0
        rows.append(open_weights(tmp_path / "more.pt").tensors["pooling.projections.1.weight"])
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_weights_that_lie_across_memory_are_written(tmp_path: Path) -> None:
    path = published(tmp_path)
    content = torch.load(path, weights_only=True)
    weight = content["model"]["text_proj.weight"]
    content["model"]["text_proj.weight"] = weight.T.contiguous().T
    torch.save(content, path)
    target = tmp_path / "more.safetensors"
    given = ("extend", path, target, "--model", "fvlm_vit_base", *TINY, ORGANS)
    assert run(*given, "--organs", ",".join(OLD)) == 0
    assert torch.equal(open_weights(target).tensors["text_projection.weight"], weight)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([ORGANS], "does not name its organs"),
        ([ORGANS, "--organs", "lung,heart"], "organs: 4 in the file, 2 in the model"),
        ([ORGANS, "--organs", "a,b,c,d"], "no organ is shared"),
        ([ORGANS, "--organs", "lung,heart,aorta,aorta"], "each once"),
        ([ORGANS, "--organs", ",".join(OLD), "model.vision.depth=2"], "blocks: 3 in the file"),
    ],
)
def test_what_cannot_be_carried_over_is_said(tmp_path: Path, capsys, more, message) -> None:
    assert extend(tmp_path, *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "more.pt").exists()


def test_only_models_of_organs_are_extended(tmp_path: Path, capsys) -> None:
    target = tmp_path / "more.pt"
    model = "hlip_vit_base_singlescan_h2_token2744"
    assert run("extend", published(tmp_path), target, "--model", model) == 2
    assert "is no model of organs" in capsys.readouterr().err


def test_a_file_of_organs_has_a_fingerprint(tmp_path: Path, capsys) -> None:
    found = []
    for seed in (0, 0, 1):
        path = published(tmp_path, seed)
        assert run("verify", path, "--model", "fvlm_vit_base", *TINY, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["fingerprint"])
    assert found[0] == found[1] and found[0]["hash"] != found[2]["hash"]
    assert len(found[0]["image"]) == len(OLD)
