"""Every model config builds with Hydra and with jsonargparse, and its tokenizer fits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf

from medvlp.checkpoints.hsenet_vlm import published_adapter
from medvlp.config import compose
from medvlp.models.fvlm import FVLM
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.models.two_tower import TwoTower
from medvlp.text.conversation_tokenizer import ConversationTokenizer
from medvlp.text.tokenizers import TextTokenizer, WordPieceTokenizer

FOLDER = Path(__file__).parents[2] / "conf" / "model"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> dict[str, Any]:
    content = OmegaConf.to_container(compose([f"model={name}"], "checkpoints"), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def as_classes(node: Any) -> Any:
    """Rewrite Hydra's `_target_` to LightningCLI's `class_path` and `init_args`."""
    if isinstance(node, list):
        return [as_classes(item) for item in node]
    if not isinstance(node, dict):
        return node
    items = {key: as_classes(value) for key, value in node.items() if key != "_target_"}
    return {"class_path": node["_target_"], "init_args": items} if "_target_" in node else items


@pytest.mark.parametrize("name", NAMES)
def test_hydra_and_jsonargparse_build_the_same_model(name: str) -> None:
    config = load(name)
    parser = ArgumentParser()
    parser.add_argument("--model", type=TwoTower | FVLM | HSENetVLM)
    parser.add_argument("--tokenizer", type=TextTokenizer | ConversationTokenizer)
    parsed = parser.parse_object(as_classes(config))
    with torch.device("meta"):
        ours = instantiate(config["model"], _convert_="all")
        theirs = parser.instantiate(parsed).model
    shapes = [{n: p.shape for n, p in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_cuts_where_the_text_tower_ends(name: str) -> None:
    config = load(name)
    tokenizer, model = config["tokenizer"], config["model"]
    text = model.get("text", model.get("language"))
    if "context_length" in text:  # CLIP's
        assert tokenizer["context_length"] <= text["context_length"]
        return
    text = text["config"]
    longest = tokenizer.get("context_length", tokenizer.get("max_length"))
    assert longest <= text.get("original_max_position_embeddings", text["max_position_embeddings"])


def test_the_phantom_model_embeds_phantoms() -> None:
    config = load("hlip_vit_tiny_phantom")
    model: TwoTower = instantiate(config["model"], _convert_="all").eval()
    tokenizer: WordPieceTokenizer = instantiate(config["tokenizer"])
    assert tokenizer.vocab_size <= config["model"]["text"]["config"]["vocab_size"]
    output = model(
        torch.randn(3, 1, 48, 48, 48), torch.tensor([2, 1]), tokenizer(["The heart is large.", ""])
    )
    assert output["image_embedding"].shape == output["text_embedding"].shape == (2, 128)


def test_hsenet_has_the_published_number_of_parameters() -> None:
    published = {"hsenet_stage1": 87_389_184, "hsenet_stage2": 89_753_857}
    for name, size in published.items():
        with torch.device("meta"):
            model: HSENetCLIP = instantiate(load(name)["model"], _convert_="all")
        assert sum(parameter.numel() for parameter in model.vision.parameters()) == size


def test_hsenets_language_model_has_the_published_size() -> None:
    config = load("hsenet_phi4")
    with torch.device("meta"):
        model: HSENetVLM = instantiate(config["model"], _convert_="all")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 51_401_728  # both packers and the low-rank layers
    adapter = published_adapter(model)
    assert len(adapter) == 284 and sum(t.numel() for t in adapter.values()) == trained
    layer = "base_model.model.model.layers.31.self_attn.qkv_proj.lora_{}.default.weight"
    assert [list(adapter[layer.format(x)].shape) for x in "AB"] == [[16, 3072], [5120, 16]]
    rotary: Any = model.language.decoder.model.rotary_emb
    assert rotary.attention_scaling == pytest.approx(1.190238)  # in short texts, too
    assert model.num_image_tokens == config["tokenizer"]["num_image_tokens"] == 256
    rope = config["model"]["language"]["config"]["rope_scaling"]
    assert len(rope["short_factor"]) == len(rope["long_factor"]) == 48


def test_the_tiny_stages_of_hsenet_embed_phantoms() -> None:
    for stage in (1, 2):
        config = load(f"hsenet_tiny_stage{stage}_phantom")["model"]
        model: HSENetCLIP = instantiate(config, _convert_="all").eval()
        slices = torch.randn(2, 8, config["vision"].get("slice_dim", 1))
        embedding = model.embed_image(torch.rand(2, 1, 32, 48, 48), torch.ones(2).long(), slices)
        assert embedding.shape == (2, 96) and model.needs_slices == (stage == 2)
