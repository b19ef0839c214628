"""HCL-AL's published names of all networks, its facts and recipe, and the starts of its texts."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.fingerprint import fingerprint
from medvlp.checkpoints.hcl_al_container import stored_recipe
from medvlp.checkpoints.hcl_al_rules import CLIP_TEXT, HCL_AL
from medvlp.checkpoints.inspection import describe_beside
from medvlp.checkpoints.model_configs import build_model, model_tree
from medvlp.checkpoints.systems import check_weights, load_vision, load_weights, recognise
from medvlp.checkpoints.text_init import TextTowerInit
from medvlp.models.hcl_al import HCLAL
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens
from medvlp.vision.lesion_vit import LesionViT
from medvlp.vision.volume_cnn import BasicNet, DenseNet, ResidualNet

GOLDENS = Path(os.environ.get("MEDVLP_GOLDENS") or Path(__file__).parents[3] / "shared" / "goldens")
KEYS = GOLDENS.parent / "specs" / "hcl_al_keys.json"
CROPS = {"coarse": (96, 96, 128), "fine": (64, 64, 64)}
PARAMETERS = {"ResidualNet": (44_988_480, 15_628_352), "BasicNet": (38_927_072, 9_566_944)}
PARAMETERS |= {"DenseNet": (709_476, 709_476), "ViT": (95_110_400, 94_938_368)}
BERT = {"model_type": "bert", "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 1}
BERT |= {"num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 12}
STATED: dict[str, Any] = {
    "spacing": [2, 2, 3],
    "crop_size": [32, 16, 16],
    "crop_normalizers": [
        {"type": 0, "mean": 40, "stddev": 200, "clip": True},
        {"type": 0, "mean": 3, "stddev": 3, "clip": False},
        {"type": 0, "mean": 0, "stddev": 1, "clip": False},
    ],
    "interpolation": ["linear", "linear", "nn"],
    "lesion_idx": [2],
    "sample_method": "fixed_length",
}


def vision_of(name: str, size: Sequence[int], width: int | None = None) -> Any:
    if "ViT" in name:
        options = {} if width is None else {"width": 12, "depth": 1, "num_heads": 2, "mlp_dim": 8}
        return LesionViT(size, **options)
    if "Dense" in name:
        return DenseNet(4, (1, 2)) if width is not None else DenseNet()
    tower = ResidualNet if "Residual" in name else BasicNet
    return tower(size, base_channels=16 if width is None else width)


def full(name: str, stage: str) -> HCLAL:
    """Build a published network without memory for its weights."""
    with torch.device("meta"):
        vision = vision_of(name, CROPS[stage])
        is_bert = "BERT" in name
        bert = {"model_type": "bert"}
        text = (
            HFEncoder(bert, pooling="max", mask_padding=False) if is_bert else ClipTextTransformer()
        )
        projection = nn.Linear(vision.embed_dim, 768 if is_bert else 512)
        text_fc = nn.Linear(512, 512) if "_Fc_" in name else None
        return HCLAL(vision, text, image_projection=projection, text_fc=text_fc)


def tiny(name: str, seed: int = 0, *, size: Sequence[int] = (32, 16, 16)) -> HCLAL:
    torch.manual_seed(seed)
    vision = vision_of(name, size, 2)
    if "BERT" in name:
        text: nn.Module = HFEncoder(BERT, pooling="max", mask_padding=False)
    else:
        text = ClipTextTransformer(20, 12, width=8, depth=1, num_heads=2, embed_dim=6)
    fc = nn.Linear(6, 6) if "_Fc_" in name else None
    projection = nn.Linear(vision.embed_dim, 6)
    return HCLAL(vision, text, image_projection=projection, text_fc=fc).eval()


NETWORKS = ["ClipText_ResidualNet", "ClipText_BasicNet", "ClipText_DenseNet", "ClipText_ViT"]
NETWORKS += ["ClipText_Fc_BasicNet", "PubMedBERT_BasicNet"]


@pytest.mark.skipif(not KEYS.is_file(), reason=f"no list of published names at {KEYS}")
def test_every_network_has_every_published_name_and_shape() -> None:
    listed = json.loads(KEYS.read_text())["full"]
    assert len(listed) == 18
    built: dict[str, HCLAL] = {}
    for key, shapes in listed.items():
        name, stage = key.split("/")
        like = re.sub(r"_(Semi)?HardNegSample|(Pub|Bio)Med", "", name)  # the same but for training
        model = built.setdefault(f"{like}/{stage}", full(like, stage))
        with torch.device("meta"):
            weights = {
                n: torch.empty(shape, dtype=torch.int64 if n.endswith("tracked") else None)
                for n, shape in shapes.items()
            }
        assert check_weights(model, weights)[1].complete, key
        exported = to_published(model.state_dict(), HCL_AL)
        assert {n: list(t.shape) for n, t in exported.items()} == {
            n: shape for n, shape in shapes.items() if ".pooler." not in n
        }


def test_the_networks_have_the_published_numbers_of_parameters() -> None:
    for part, counts in PARAMETERS.items():
        for stage, expected in zip(CROPS, counts, strict=True):
            model = full(f"ClipText_{part}", stage)
            parts = (model.vision, model.image_projection)
            assert sum(p.numel() for m in parts for p in m.parameters()) == expected
    for stage in CROPS:
        ours = build_model(model_tree(f"hcl_al_{stage}"), only_shapes=True).state_dict()
        theirs = full("ClipText_ResidualNet", stage).state_dict()
        assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_come_back_bit_by_bit(tmp_path: Path, name: str) -> None:
    source, model = tiny(name, 1), tiny(name, 2)
    weights = {f"module.{n}": t for n, t in to_published(source.state_dict(), HCL_AL).items()}
    if "BERT" in name:
        weights["module.text_encoder.pooler.dense.bias"] = torch.zeros(6)
    beside = {"epoch": 350, "net": name} | STATED
    torch.save(beside | {"state_dict": weights}, tmp_path / "params.pth")
    told = describe_beside(open_weights(tmp_path / "params.pth"))
    assert told["spacing"] == [2, 2, 3] and told["crop_normalizers"] == "list of 3"
    assert load_weights(model, tmp_path / "params.pth").complete
    system, ours, facts = recognise({n.removeprefix("module."): t for n, t in weights.items()})
    assert system is not None and (system.name, ours) == ("hcl_al", False)
    assert recognise(model.state_dict())[1:] == (True, facts)
    for key, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor)
    vision = tiny(name, 3)
    assert load_vision(vision, {n.removeprefix("module."): t for n, t in weights.items()}).complete
    assert fingerprint(model) == fingerprint(source) != fingerprint(vision)


def test_weights_of_another_crop_are_refused() -> None:
    weights = to_published(tiny("BasicNet", size=(16, 16, 16)).state_dict(), HCL_AL)
    message = "voxels of a patch: 4096 in the file, 8192 in the model"
    with pytest.raises(CheckpointMismatchError, match=message):
        load_weights(tiny("BasicNet"), weights)


def test_a_file_states_its_recipe() -> None:
    recipe = stored_recipe(STATED, "coarse")
    told = recipe.describe()
    assert told["patches"] == {"coarse": {"size": [32, 16, 16], "spacing_mm": [2.0, 2.0, 3.0]}}
    assert [channel["field"] for channel in told["channels"]] == ["image", "pet", "lesion_mask"]
    assert told["channels"][0] | {"field": ""} == {
        "field": "",
        "mean": 40,
        "std": 200,
        "clip": True,
    }
    assert told["compat"] == "published"
    with pytest.raises(ValueError, match="states no spacing, crop_size"):
        stored_recipe({"lesion_idx": [2]}, "fine")
    with pytest.raises(ValueError, match=r"interpolation \['nn', 'linear', 'nn'\]"):
        stored_recipe(STATED | {"interpolation": ["nn", "linear", "nn"]}, "fine")


def clip_folder(folder: Path) -> tuple[CLIPTextModelWithProjection, Path]:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 20, "max_position_embeddings": 12, "hidden_size": 8}
    sizes |= {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(**sizes, projection_dim=6, hidden_act="quick_gelu", eos_token_id=19)
    theirs = CLIPTextModelWithProjection(config).eval()
    save_file(dict(theirs.state_dict()), folder / "model.safetensors")
    return theirs, folder / "model.safetensors"


@torch.no_grad()
def test_clips_text_tower_starts_from_either_naming(tmp_path: Path) -> None:
    theirs, path = clip_folder(tmp_path)
    ids = torch.tensor([[18, 3, 4, 19, 0, 0], [18, 5, 19, 0, 0, 0]])
    expected = theirs(input_ids=ids).text_embeds
    model = tiny("BasicNet", 1)
    assert TextTowerInit(str(path))(model).complete
    tokens = Tokens(ids, ids > 0)
    torch.testing.assert_close(model.text(tokens), expected, rtol=0, atol=1e-6)
    half = {n: t.half() for n, t in to_published(model.text.state_dict(), CLIP_TEXT).items()}
    torch.save(half | {"visual.proj": torch.ones(2), "logit_scale": torch.ones(())}, tmp_path / "c")
    other = tiny("BasicNet", 2)
    assert TextTowerInit(str(tmp_path / "c"))(other).complete
    torch.testing.assert_close(other.text(tokens), expected, rtol=0, atol=1e-2)


def test_a_bert_starts_from_what_agrees_of_biomedclip(tmp_path: Path) -> None:
    source, model = tiny("BERT", 1), tiny("BERT", 2)
    own = {n.removeprefix("encoder."): t for n, t in source.text.state_dict().items()}
    theirs = {f"text.transformer.{name}": tensor for name, tensor in own.items()}
    longer = "text.transformer.embeddings.position_embeddings.weight"
    theirs |= {longer: torch.zeros(20, 6), "text.proj.0.weight": torch.ones(2, 6)}
    torch.save(theirs | {"visual.head.proj.weight": torch.ones(2)}, tmp_path / "biomedclip.bin")
    kept = model.text.get_parameter("encoder.embeddings.position_embeddings.weight").clone()
    report = TextTowerInit(str(tmp_path / "biomedclip.bin"))(model)
    assert len(report.loaded) == len(own) - 1 and len(report.mismatched) == 1
    found = model.text.state_dict()
    assert torch.equal(found.pop("encoder.embeddings.position_embeddings.weight"), kept)
    assert all(torch.equal(tensor, source.text.state_dict()[n]) for n, tensor in found.items())


def test_other_files_and_towers_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    start = TextTowerInit(str(tmp_path / "other.pt"))
    for name in ("BasicNet", "BERT"):
        with pytest.raises(CheckpointMismatchError, match=r"other\.pt"):
            start(tiny(name))
    with pytest.raises(ValueError, match="init=text_tower fills"):
        start(nn.Linear(1, 1))
