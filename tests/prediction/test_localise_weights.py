"""All published networks through the verb, and weight files that cannot be right."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medvlp import localise
from medvlp.checkpoints.adapter import CheckpointMismatchError, to_published
from medvlp.checkpoints.hcl_al_rules import HCL_AL
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.lesion_stage import load_stage
from medvlp.text.clip_transformer import ClipTextTransformer
from medvlp.text.hf_encoder import HFEncoder
from medvlp.types import Tokens
from medvlp.vision.lesion_vit import LesionViT
from medvlp.vision.volume_cnn import BasicNet, DenseNet, ResidualNet

from .lesion_files import (
    BESIDE,
    CROP,
    KEY,
    encrypt,
    outputs,
    tiny_model,
    write_published,
    write_study,
)

NETWORKS = [f"ClipText_{name}" for name in ("ResidualNet", "BasicNet", "DenseNet", "ViT")]
NETWORKS += ["ClipText_Fc_BasicNet", "ClipText_BasicNet_HardNegSample"]
NETWORKS += ["ClipText_BasicNet_SemiHardNegSample", "PubMedBERT_BasicNet", "BioMedBERT_BasicNet"]
VISIONS: dict[str, Any] = {
    "ResidualNet": lambda: ResidualNet(CROP, base_channels=1),
    "BasicNet": lambda: BasicNet(CROP, base_channels=1),
    "DenseNet": lambda: DenseNet(2, (1, 2)),
    "ViT": lambda: LesionViT(CROP, width=64, depth=2, num_heads=1, mlp_dim=8),
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BERT = {"vocab_size": 4 + 2 * len(LETTERS), "hidden_size": 64, "num_hidden_layers": 1}
BERT |= {"num_attention_heads": 1, "intermediate_size": 8, "max_position_embeddings": 80}


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    return write_study(tmp_path)


def tiny(name: str) -> HCLAL:
    torch.manual_seed(3)
    vision = next(build() for part, build in VISIONS.items() if part in name)
    text: nn.Module = ClipTextTransformer(49408, 77, width=4, depth=1, num_heads=1, embed_dim=6)
    if "BERT" in name:
        text = HFEncoder({"model_type": "bert"} | BERT, pooling="max", mask_padding=False)
    width = 64 if "BERT" in name else 6
    fc = nn.Linear(6, 6) if "_Fc_" in name else None
    projection = nn.Linear(vision.embed_dim, width)
    return HCLAL(vision, text, image_projection=projection, text_fc=fc).eval()


def tokenizer_folder(folder: Path) -> Path:
    folder.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{one}" for one in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    source = tiny(name)
    path = write_published(tmp_path / "params.pth", source, net=name)
    overrides: list[str] = []
    if "BERT" in name:
        with pytest.raises(ValueError, match=r"params\.pth: its texts go through a BERT.*Biomed"):
            load_stage(path, "coarse")
        overrides = [f"tokenizer.name_or_path={tokenizer_folder(tmp_path / 'words')}"]
    stage = load_stage(path, "coarse", overrides=overrides)
    patches = torch.randn(2, 3, *CROP)
    torch.testing.assert_close(
        stage.model.embed_lesion(patches), source.embed_lesion(patches), rtol=0, atol=0
    )
    tokens = stage.tokenizer(["in the liver", "in the apex of the left lung"])
    whole = Tokens(*(nn.functional.pad(part, (0, 77 - part.shape[1])) for part in tokens))
    assert tokens.input_ids.shape[1] == 77 or "BERT" not in name
    torch.testing.assert_close(stage.model.embed_text(tokens), source.embed_text(whole))


@pytest.mark.parametrize("name", ["ClipText_DenseNet", "ClipText_ViT", "PubMedBERT_BasicNet"])
def test_other_networks_name_places(name: str, study: list[str], tmp_path: Path) -> None:
    coarse = write_published(tmp_path / "params.pth", tiny(name), net=name)
    stages = ["--coarse", str(coarse), "--vocabulary", "phantom", "--no-pictures"]
    if "BERT" in name:
        stages += ["--set", f"tokenizer.name_or_path={tokenizer_folder(tmp_path / 'words')}"]
    localise.main([*study, *stages, "--out", str(tmp_path / "out")])
    rows, _ = outputs(tmp_path / "out")
    assert len(rows) == 3 and all(len(row["coarse_labels"].split(",")) == 3 for row in rows)


def test_encrypted_weights_open_with_their_key(study: list[str], tmp_path: Path) -> None:
    plain = write_published(tmp_path / "params.pth")
    closed = encrypt(plain, tmp_path / "closed.pth")
    (tmp_path / "key").write_bytes(KEY + b"\n")
    (tmp_path / "wrong").write_bytes(b"another 16 bytes")
    options = [*study, "--vocabulary", "phantom", "--no-pictures", "--out", str(tmp_path)]
    localise.main([*options, "--coarse", str(plain)])
    expected = outputs(tmp_path)
    localise.main([*options, "--coarse", str(closed), "--key-file", str(tmp_path / "key")])
    assert outputs(tmp_path) == expected
    with pytest.raises(SystemExit, match="this key does not open"):
        localise.main([*options, "--coarse", str(closed), "--key-file", str(tmp_path / "wrong")])
    with pytest.raises(SystemExit, match="is encrypted"):
        localise.main([*options, "--coarse", str(closed)])


def test_stages_that_were_swapped_are_told(study: list[str], tmp_path: Path) -> None:
    coarse = write_published(tmp_path / "coarse.pth", spacing=[4, 4, 4])
    fine = write_published(tmp_path / "fine.pth")
    options = [*study, "--vocabulary", "phantom", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="were they swapped"):
        localise.main([*options, "--coarse", str(fine), "--fine", str(coarse)])
    with pytest.raises(SystemExit, match="were they swapped"):
        localise.main([*options, "--coarse", str(fine), "--fine", str(fine)])


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"crop_size": [64, 64, 64]}, "262,144, and the weights are of patches of 8,192"),
        ({"crop_size": [32, 16]}, "three positive numbers each, along x, y, z"),
        ({"spacing": [3, 0, 3]}, "three positive numbers"),
        ({"lesion_idx": []}, "one lesion_idx among them"),
        ({"lesion_idx": [3]}, "one lesion_idx among them"),
        ({"input_channel": 4}, "input_channel their number"),
        ({"crop_normalizers": [{"mean": 1}] * 3}, "with type, mean, stddev and clip"),
        (
            {"crop_normalizers": BESIDE["crop_normalizers"][1:], "lesion_idx": [1]}
            | {"input_channel": 2, "interpolation": ["linear", "nn"]},
            "weights see 3 channels, and it states 2",
        ),
        ({"sample_method": "random"}, "sample_method 'random'"),
    ],
)
def test_files_that_contradict_themselves(
    beside: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_published(tmp_path / "params.pth", **beside)
    with pytest.raises(ValueError, match=message) as told:
        load_stage(path, "fine")
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        ("image_encoder.down_64.conv.weight", CheckpointMismatchError),
        ("text_encoder.text_projection", ValueError),
        ("image_encoder.fc.weight", ValueError),
        ("image_encoder.in_block.conv.weight", ValueError),
        ("text_encoder.", ValueError),
    ],
)
def test_weights_that_are_cut_off(lost: str, kind: type[ValueError], tmp_path: Path) -> None:
    weights = to_published(tiny_model().state_dict(), HCL_AL)
    kept = {f"module.{name}": t for name, t in weights.items() if not name.startswith(lost)}
    path = tmp_path / "params.pth"
    torch.save({"state_dict": kept, **BESIDE}, path)
    with pytest.raises(kind) as told:
        load_stage(path, "fine")
    assert str(path) in str(told.value)
