"""HCL-AL's model: its start, its scale, wrong texts, and text towers that look back only."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medvlp.data.collate import Collate
from medvlp.data.lesion_texts import PlaceText
from medvlp.data.volume_dataset import Sample
from medvlp.losses.lesion_places import HardNegativeLoss
from medvlp.models.hcl_al import HCLAL
from medvlp.systems.contrastive import ContrastiveSystem
from medvlp.text.clip_tokenizer import ClipTokenizer
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens
from medvlp.vision.lesion_vit import LesionViT
from medvlp.vision.volume_cnn import BasicNet, DenseNet, ResidualNet

SIZE = (32, 16, 16)


def make_text(**options: Any) -> ClipTextTransformer:
    sizes = {"width": 8, "depth": 2, "num_heads": 2, "embed_dim": 6}
    return ClipTextTransformer(49408, 77, **sizes, **options)


def make_model(vision: Any = None, **options: Any) -> HCLAL:
    torch.manual_seed(0)
    vision = BasicNet(SIZE, base_channels=2) if vision is None else vision
    projection = nn.Linear(vision.embed_dim, 6)
    text = options.pop("text", None) or make_text()
    return HCLAL(vision, text, image_projection=projection, **options)


def test_the_image_side_starts_as_published() -> None:
    model = make_model(ResidualNet(SIZE, base_channels=8))
    stage = model.vision.get_submodule("stages.3")
    conv, norm = stage.get_submodule("down.conv"), stage.get_submodule("down.norm")
    assert isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d)
    expected = math.sqrt(2 / (64 * 8))
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert conv.bias is not None and not conv.bias.any() and not norm.bias.any()
    assert isinstance(model.image_projection, nn.Linear)
    inputs = model.image_projection.in_features
    deviation = model.image_projection.weight.std().item()
    assert deviation == pytest.approx(math.sqrt(2 / inputs), rel=0.1)
    assert not model.image_projection.bias.any()
    table = LesionViT(SIZE, (8, 8, 8), width=48, depth=1, num_heads=2, mlp_dim=8).pos_embed
    assert table.std().item() == pytest.approx(1.0, rel=0.1)
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_the_scale_is_free_as_published_or_kept() -> None:
    for compat, expected in (("published", 6.0), (None, math.log(100))):
        model = make_model(logit_scale_init=6.0, compat=compat)
        model.clamp_logit_scale()
        assert model.logit_scale.item() == pytest.approx(expected)


@torch.no_grad()
def test_what_follows_the_end_changes_nothing_in_clip_and_everything_in_the_bert() -> None:
    ids = ClipTokenizer()(["in the liver", "in the left upper lobe of the lung"]).input_ids
    tokens = Tokens(ids, ids > 0)
    longer = torch.nn.functional.pad(ids, (0, 9), value=5)
    text = make_text().eval()
    found, expected = text(Tokens(longer, longer > 0)), text(tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    single = torch.cat([text(Tokens(row[None], row[None] > 0)) for row in ids])
    torch.testing.assert_close(single, expected, rtol=0, atol=1e-6)
    sizes = {"vocab_size": 49408, "hidden_size": 6, "num_hidden_layers": 1}
    bert = HFEncoder(
        sizes | {"num_attention_heads": 2, "intermediate_size": 8},
        pooling="max",
        mask_padding=False,
    ).eval()
    assert not torch.allclose(bert(Tokens(longer, longer > 0)), bert(tokens))


def test_a_frozen_text_tower_leaves_the_layer_behind_it_free() -> None:
    model = make_model(text=make_text(freeze="all"), text_fc=nn.Linear(6, 6))
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("text.") for name in free)
    assert {"text_projection.weight", "logit_scale", "image_projection.bias"} <= free


def test_patches_of_another_size_are_refused_and_dense_nets_take_any() -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"\(3, 16, 16, 16\) came .* takes \(3, 32, 16, 16\)"):
        model.embed_lesion(torch.zeros(1, 3, 16, 16, 16))
    with pytest.raises(ValueError, match="2 patches came for 1 studies"):
        model.embed_image(torch.zeros(2, 3, *SIZE), torch.tensor([2]))
    with pytest.raises(ValueError, match="cannot be halved 4 times; choose multiples of 16"):
        BasicNet((32, 24, 16))
    dense = make_model(DenseNet(2, (1, 1, 1, 1), stem_channels=4)).eval()
    assert dense.embed_lesion(torch.rand(1, 3, 48, 32, 64)).shape == (1, 6)


def sample(number: int, texts: list[Any]) -> Sample:
    return Sample(
        study_id=str(number),
        sample_id=str(number),
        patient_id=str(number),
        inputs=[{"image": torch.rand(3, *SIZE)}],
        texts=texts,
        labels=[],
        statements=(),
    )


def test_wrong_places_reach_the_loss(tmp_path: Path) -> None:
    vocabulary = tmp_path / "places.json"
    vocabulary.write_text('{"Trunk": {"Liver": {"Dome": "Dome"}, "Heart": {"Apex": "Apex"}}}')
    words = ["Liver", "Dome", "Heart", "Apex"]
    told = ", ".join(f'"{word}": "in the {word.lower()}"' for word in words)
    (tmp_path / "texts.json").write_text("{" + told + "}")
    places = PlaceText("coarse", str(vocabulary), str(tmp_path / "texts.json"), negatives=True)
    chance = np.random.default_rng(0)
    units = [places.about({}, {"coarse": w}, chance, training=True) for w in ("Liver", "Heart")]
    assert units[0][0].negatives == ("in the dome", "in the heart", "in the apex")
    assert places.about({}, {"coarse": "Liver"}, chance, training=False)[0].negatives == ()
    batch = Collate(ClipTokenizer(), "hash")([sample(n, texts) for n, texts in enumerate(units)])
    assert "negatives" in batch and len(batch["negatives"].input_ids) == 6
    model = make_model()
    system = ContrastiveSystem(
        model,
        HardNegativeLoss(top_k=2),
        optimizer=torch.optim.SGD,
        schedule=lambda step, total: 1.0,
    )
    assert "tokens" in batch
    output = system._forward(batch, batch["tokens"])
    assert "negative_embedding" in output
    wrong = model.embed_text(batch["negatives"]).unflatten(0, (2, 3))
    torch.testing.assert_close(output["negative_embedding"], wrong)
    system.loss(output, batch)["total"].backward()
    assert model.logit_scale.grad is not None
    plain = replace(units[1][0], negatives=())
    with pytest.raises(ValueError, match="between 0 and 3 wrong ones"):
        Collate(ClipTokenizer(), "hash")([sample(0, units[0]), sample(1, [plain])])


@pytest.mark.parametrize(
    "tower",
    [
        BasicNet(SIZE, base_channels=2),
        ResidualNet(SIZE, base_channels=2),
        DenseNet(2, (2, 1), stem_channels=4),
        LesionViT(SIZE, (8, 8, 8), width=12, depth=1, num_heads=2, mlp_dim=8),
    ],
    ids=lambda tower: type(tower).__name__,
)
def test_the_encoder_for_inference_agrees_and_leaves_the_model_alone(tower: nn.Module) -> None:
    model = make_model(tower)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm3d):  # as after training
            nn.init.normal_(part.running_mean, 0.0, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(part.bias, 0.0, 0.2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    patches = torch.randn(3, 3, *SIZE)
    with torch.inference_mode():
        expected = model.eval().embed_lesion(patches)
        encoder = model.lesion_encoder()
        found = encoder(patches.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    kinds = {type(part) for part in encoder.modules()}
    assert nn.BatchNorm3d not in kinds or isinstance(tower, DenseNet)  # some come before a ReLU
