"""HLIP's rule table: every published name and shape at full size, old files, 2D starts."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from medvlp.checkpoints.adapter import CheckpointMismatchError
from medvlp.checkpoints.hlip import export_hlip, load_hlip, load_hlip_trunk
from medvlp.checkpoints.mae import inflate_mae, init_from_mae
from medvlp.layers.patch_embed import ConvStemPatchEmbed, PatchEmbed3D
from medvlp.layers.pos_embed import ScanPositions
from medvlp.models.two_tower import TwoTower
from medvlp.vision.hierarchical_vit import HierarchicalViT

REPOSITORY = Path(__file__).parents[2]
GOLDENS = Path(os.environ.get("MEDVLP_GOLDENS") or REPOSITORY.parent / "shared" / "goldens")
KEYS = GOLDENS.parent / "specs" / "hlip_keys.json"
PUBLISHED: dict[str, Any] = json.loads(KEYS.read_text()) if KEYS.is_file() else {}
needs_keys = pytest.mark.skipif(not PUBLISHED, reason=f"no list of published names at {KEYS}")

V1 = [
    f"vit_base_{name}"
    for name in (
        "singlescan_h2_token2744",
        "multiscan_h2_token588",
        "multiscan_h2_token1176",
        "multiscan_h3_token1176",
    )
]
# Name of the config -> parameters of the trunk, and those that are trained.
NEWER = {
    "vit_base_scan_study_dualdinotxt1568": (87_442_176, 86_237_952),
    "vit_base_slice_scan_study_dualdinotxt1568": (87_442_176, 86_237_952),
    "vit_large_scan_study_dualdinotxt1568": (305_492_992, 303_887_360),
    "vit_large_slice_scan_study_dualdinotxt1568": (305_492_992, 303_887_360),
}


def model_config(name: str) -> dict[str, Any]:
    config = OmegaConf.load(REPOSITORY / "conf" / "model" / f"hlip_{name}.yaml")
    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    return content["model"]


def on_meta(config: dict[str, Any]) -> TwoTower:
    with torch.device("meta"):
        return instantiate(config, _convert_="all")


def sizes(model: TwoTower) -> tuple[int, int]:
    parameters = list(model.vision.parameters())
    return (
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
    )


@needs_keys
@pytest.mark.parametrize("name", V1)
def test_v1_models_have_every_published_name_and_shape(name: str) -> None:
    model, info = on_meta(model_config(name)), PUBLISHED["_info"][name]
    exported = {key: list(tensor.shape) for key, tensor in export_hlip(model).items()}
    assert exported == PUBLISHED[name]
    assert len(exported) == info["n_keys"]
    assert sizes(model) == (info["trunk_params"], info["trunk_trainable"])
    assert sum(p.numel() for p in model.parameters()) == info["total"]


@needs_keys
@pytest.mark.parametrize("name", NEWER)
def test_newer_models_have_every_published_name_and_shape(name: str) -> None:
    model = on_meta(model_config(name))
    exported = {key: list(tensor.shape) for key, tensor in export_hlip(model).items()}
    assert exported == newer_shapes(name)
    assert sizes(model) == NEWER[name]


def newer_shapes(name: str) -> dict[str, list[int]]:
    # The published list holds one of both kinds of attention, which leave no trace in the shapes.
    return PUBLISHED["clip_" + name.replace("slice_scan_study", "scan_study")]


def test_the_newer_chest_model_has_its_own_patch_and_grid() -> None:
    model = on_meta(model_config("vit_base_slice_scan_dualdinotxt2744"))
    exported = {key: tuple(tensor.shape) for key, tensor in export_hlip(model).items()}
    assert exported["visual.trunk.spatial_posemb"] == (1, 14, 14, 14, 768)
    assert exported["visual.trunk.patch_embed.proj.weight"] == (768, 1, 8, 24, 24)
    assert exported["visual.head.proj.weight"] == (768, 2 * 768)
    assert exported["logit_bias"] == ()
    assert not any("sequential_posemb" in name for name in exported)


def test_levels_of_the_newer_models() -> None:
    levels = {name: on_meta(model_config(name)).vision.levels for name in NEWER}
    study = [
        k
        for k, level in enumerate(levels["vit_large_scan_study_dualdinotxt1568"])
        if level == "study"
    ]
    assert study == [5, 11, 17, 23]
    sliced = levels["vit_large_slice_scan_study_dualdinotxt1568"]
    assert [k for k, level in enumerate(sliced) if level == "study"] == study
    assert [k for k, level in enumerate(sliced) if level == "scan"] == [4, 10, 16, 22]
    assert levels["vit_base_slice_scan_study_dualdinotxt1568"] == ["slice", "scan", "study"] * 4


@needs_keys
@pytest.mark.parametrize("name", [*V1, *NEWER])
def test_every_published_name_is_loaded(name: str) -> None:
    shapes = newer_shapes(name) if name in NEWER else PUBLISHED[name]
    with torch.device("meta"):
        weights = {key: torch.empty(shape) for key, shape in shapes.items()}
    report = load_hlip(on_meta(model_config(name)), weights)
    assert report.complete and len(report.loaded) == len(weights)


def make_trunk(num_rows: int = 1, **options: Any) -> HierarchicalViT:
    return HierarchicalViT(
        PatchEmbed3D(1, (2, 4, 4), 12),
        (2, 2, 2),
        levels=["scan", "study"],
        num_heads=2,
        scan_positions=ScanPositions(num_rows),
        **options,
    )


def published_trunk(num_rows: int = 1) -> dict[str, Tensor]:
    names = {"pos_embed": "spatial_posemb", "scan_pos_embed": "sequential_posemb"}
    weights = make_trunk(num_rows).state_dict()
    return {names.get(name, name): torch.randn_like(tensor) for name, tensor in weights.items()}


def test_the_old_name_of_the_scan_table_is_known() -> None:
    weights = published_trunk(num_rows=3)
    weights["series_posemb"] = weights.pop("sequential_posemb")
    trunk = make_trunk(num_rows=3)
    assert load_hlip_trunk(trunk, weights).complete
    assert torch.equal(trunk.scan_pos_embed, weights["series_posemb"])


def test_a_scan_table_of_one_row_is_superfluous_a_longer_one_is_not() -> None:
    weights = published_trunk() | {"sequential_posemb": torch.zeros(1, 1, 12)}
    assert load_hlip_trunk(make_trunk(), weights).ignored == ["sequential_posemb"]
    with pytest.raises(CheckpointMismatchError, match="sequential_posemb"):
        load_hlip_trunk(make_trunk(), published_trunk(num_rows=3))


def mae_weights(num_positions: int = 5) -> dict[str, Tensor]:
    weights = make_trunk().state_dict()
    weights["pos_embed"] = torch.randn(1, num_positions, 12)
    weights["patch_embed.proj.weight"] = torch.randn(12, 3, 4, 4)
    return weights


def test_mae_leaves_scan_positions_and_registers_alone() -> None:
    trunk = make_trunk(num_rows=3, num_register_tokens=1)
    table = trunk.scan_pos_embed.clone()
    report = init_from_mae(trunk, {"model": mae_weights()})
    assert report.missing == ["reg_token", "scan_pos_embed"]
    assert torch.equal(trunk.scan_pos_embed, table)


def test_mae_without_a_class_position_keeps_the_class_token() -> None:
    weights = mae_weights(num_positions=4)
    inflated = inflate_mae(weights, (2, 4, 4), (2, 2, 2))
    assert torch.equal(inflated["cls_token"], weights["cls_token"])


def test_mae_weights_that_are_not_used_are_counted() -> None:
    weights = mae_weights() | {"decoder.weight": torch.zeros(1)}
    with pytest.warns(UserWarning, match=r"1 tensors of the 2D weights are not used: decoder\.w"):
        init_from_mae(make_trunk(), weights)


def test_mae_of_another_depth_is_refused() -> None:
    weights = {name: w for name, w in mae_weights().items() if not name.startswith("blocks.1.")}
    with pytest.raises(CheckpointMismatchError, match="12 missing"):
        init_from_mae(make_trunk(), weights)


def test_mae_needs_a_plain_patch_embedding_and_a_square_table() -> None:
    stem = HierarchicalViT(
        ConvStemPatchEmbed(1, (2, 2, 2), embed_dim=16), (2, 2, 2), levels=["study"], num_heads=2
    )
    with pytest.raises(ValueError, match="the tower has ConvStemPatchEmbed"):
        init_from_mae(stem, mae_weights())
    with pytest.raises(ValueError, match="6 positions do not form a square grid"):
        init_from_mae(make_trunk(), mae_weights(num_positions=7))
    with pytest.raises(ValueError, match="pos_embed is missing"):
        init_from_mae(make_trunk(), {"cls_token": torch.zeros(1)})
