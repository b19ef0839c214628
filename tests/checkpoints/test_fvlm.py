"""fVLM's published names at full size, round trips, and stray or missing tensors."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.fvlm import FVLM_TABLE
from medvlp.checkpoints.mae import init_from_mae
from medvlp.checkpoints.model_configs import build_model, model_tree
from medvlp.checkpoints.systems import check_weights, load_vision, load_weights, recognise
from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.models.fvlm import FVLM
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens
from medvlp.vision.anatomy_vit import AnatomyViT

GOLDENS = Path(os.environ.get("MEDVLP_GOLDENS") or Path(__file__).parents[3] / "shared" / "goldens")
KEYS = GOLDENS.parent / "specs" / "fvlm_keys.json"
ORGANS = ["lung", "heart", "esophagus", "aorta"]


def make_fvlm(seed: int = 0, *, width: int = 8) -> FVLM:
    torch.manual_seed(seed)
    bert = {"model_type": "bert", "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 1}
    bert |= {"num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 12}
    vision = AnatomyViT(
        PatchEmbed3D(1, (2, 2, 4), width), (2, 3, 2), depth=3, num_heads=2, taps=(1, 2)
    )
    return FVLM(
        vision,
        HFEncoder(bert, token_types=False),
        pooling=AnatomyPool(ORGANS, width, embed_dim=5, num_heads=2),
        text_projection=nn.Linear(6, 5),
    ).eval()


def test_the_model_has_the_published_numbers_of_parameters() -> None:
    model = build_model(model_tree("fvlm_vit_base"), only_shapes=True)
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(counts.values()) == 204_534_273
    assert sum(n for name, n in counts.items() if name.startswith("vision.")) == 92_294_400
    assert sum(n for name, n in counts.items() if name.startswith("text.")) == 108_890_112


@pytest.mark.skipif(not KEYS.is_file(), reason=f"no list of published names at {KEYS}")
def test_the_model_has_every_published_name_and_shape() -> None:
    published = json.loads(KEYS.read_text())
    model = build_model(model_tree("fvlm_vit_base"), only_shapes=True)
    stray = set(published["aliases_or_leftovers_to_ignore_on_load"])
    exported = to_published(model.state_dict(), FVLM_TABLE)
    shapes = {name: list(tensor.shape) for name, tensor in exported.items()}
    assert shapes == {n: s for n, s in published["main"].items() if n not in stray}
    with torch.device("meta"):
        weights = {
            name: torch.empty(shape, dtype=torch.int64 if "position_ids" in name else None)
            for name, shape in (published["main"] | published["may_also_be_present"]).items()
        }
    _, report = check_weights(model, weights)
    assert report.complete
    assert set(report.ignored) == stray | set(published["may_also_be_present"])
    system, ours, _ = recognise(weights)
    assert system is not None and (system.name, ours) == ("fvlm", False)


@pytest.mark.parametrize("ours", [True, False])
def test_weights_come_back_bit_by_bit(tmp_path: Path, ours: bool) -> None:
    source, model = make_fvlm(1), make_fvlm(2)
    weights = dict(source.state_dict()) if ours else to_published(source.state_dict(), FVLM_TABLE)
    torch.save({"model": weights, "scaler": None, "epoch": 3}, tmp_path / "model.pth")
    assert load_weights(model, tmp_path / "model.pth").complete
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    vision = make_fvlm(3)
    assert load_vision(vision, weights).complete
    assert torch.equal(vision.vision.pos_embed, source.vision.pos_embed)


def test_what_does_not_fit_is_said_in_terms_of_the_configuration() -> None:
    weights = to_published(make_fvlm(width=16).state_dict(), FVLM_TABLE)
    with pytest.raises(CheckpointMismatchError, match="width: 16 in the file, 8 in the model"):
        load_weights(make_fvlm(), weights)
    weights = to_published(make_fvlm().state_dict(), FVLM_TABLE)
    del weights["query_tokens"], weights["vision_projs.2.bias"]
    with pytest.raises(CheckpointMismatchError, match="missing here"):
        load_weights(make_fvlm(), weights)


def test_a_2d_file_of_another_kind_is_refused() -> None:
    vision = make_fvlm().vision
    with pytest.raises(ValueError, match="pos_embed is missing"):
        init_from_mae(vision, {"blocks.0.norm1.weight": torch.ones(8)})
    with pytest.raises(CheckpointMismatchError, match="missing here"):
        init_from_mae(vision, {"pos_embed": torch.zeros(1, 5, 8)})


def test_organs_and_texts_are_embedded_to_unit_length() -> None:
    model = make_fvlm()
    mask = torch.zeros(2, 4, 6, 8, dtype=torch.uint8)
    mask[0, 1, 2, 3], mask[1, 0, 0, 0] = 1, 4
    image, ones = torch.rand(2, 1, 4, 6, 8), torch.ones(2, dtype=torch.int64)
    tokens = Tokens(torch.tensor([[2, 5, 3]]), torch.ones(1, 3, dtype=torch.bool))
    output = model(image, ones, mask, tokens)
    assert output["present"].int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    lengths = output["organ_embedding"].norm(dim=-1)
    torch.testing.assert_close(lengths, output["present"].float())
    assert float(output["text_embedding"].detach().norm()) == pytest.approx(1.0)
    _, intact = model.embed_image(image, ones, mask, intact_only=True)
    assert intact.int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match="prepare them together"):
        model.embed_image(image, ones, mask[:, 1:])
    with pytest.raises(ValueError, match="a label 5, the model knows 4 organs"):
        model.embed_image(image, ones, mask + 1)
    with pytest.raises(ValueError, match="one scan a study"):
        model.vision(image, ones[:1])
