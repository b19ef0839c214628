"""`python -m medvlp.checkpoints` on small files in every published layout."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp import config
from medvlp.checkpoints.__main__ import main
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.hlip import export_hlip
from medvlp.checkpoints.model_configs import (
    build_model,
    fitting_models,
    model_names,
    model_tree,
)
from medvlp.checkpoints.systems import facts_of
from medvlp.models.two_tower import TwoTower

from .synthetic import LAYOUTS, write

TINY = [
    "model.vision.patch_embed.embed_dim=12",
    "model.vision.patch_embed.patch_size=[2,4,4]",
    "model.vision.grid=[2,2,2]",
    "model.vision.levels=[slice,study]",
    "model.vision.num_heads=2",
    "model.text.config.vocab_size=20",
    "model.text.config.hidden_size=8",
    "model.text.config.num_hidden_layers=2",
    "model.text.config.num_attention_heads=2",
    "model.text.config.intermediate_size=16",
    "model.text.config.max_position_embeddings=12",
    "model.text_projection.in_features=8",
]
SINGLE, MULTI = "hlip_vit_base_singlescan_h2_token2744", "hlip_vit_base_multiscan_h2_token1176"
DUAL = "hlip_vit_base_scan_study_dualdinotxt1568"
KINDS = {
    "single": (SINGLE, "model.image_projection.in_features=12"),
    "multi": (MULTI, "model.image_projection.in_features=12"),
    "dual": (DUAL, "model.image_projection.in_features=24"),
}


def options(kind: str) -> list[str]:
    name, head = KINDS[kind]
    return ["--model", name, *TINY, head]


def make(kind: str, *more: str, seed: int = 0) -> TwoTower:
    torch.manual_seed(seed)
    name, head = KINDS[kind]
    model = build_model(model_tree(name, [*TINY, head, *more]))
    assert isinstance(model, TwoTower)
    return model


def published(kind: str, *more: str) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in export_hlip(make(kind, *more)).items()}


def run(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def told(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def same(left: Path, right: Path) -> bool:
    a, b = open_weights(left).tensors, open_weights(right).tensors
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_round_trip_through_our_names_is_bit_exact(
    tmp_path: Path, kind: str, layout: str
) -> None:
    source = write(tmp_path, published(kind), layout)
    ours = tmp_path / "ours.safetensors"
    assert run("convert", source, ours, *options(kind), "--to", "ours") == 0
    assert "vision.blocks.0.attn.qkv.weight" in open_weights(ours).tensors
    for out in ("bare", "module", "nested"):
        back = tmp_path / f"back_{out}.pt"
        assert run("convert", ours, back, *options(kind), "--to", "published", "--layout", out) == 0
        assert same(source, back)
    content = torch.load(tmp_path / "back_nested.pt")
    assert set(content) == {"epoch", "name", "state_dict"}
    assert all(name.startswith("module.") for name in content["state_dict"])
    assert not list(tmp_path.glob("*.tmp"))


def test_half_precision_and_superfluous_tensors_survive_or_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {name: tensor.half() for name, tensor in published("single").items()}
    weights["text.transformer.embeddings.position_ids"] = torch.arange(12)[None]
    source = write(tmp_path, weights, "bare")
    target = tmp_path / "out.bin"
    answer = told(capsys, "convert", source, target, *options("single"), "--to", "published")
    assert answer["left out"] == ["text.transformer.embeddings.position_ids"]
    assert {t.dtype for t in open_weights(target).tensors.values()} == {torch.float16}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_have_one_fingerprint_in_every_layout(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write(tmp_path, published("multi"), "bare")
    expected = told(capsys, "verify", reference, *options("multi"))
    source = write(tmp_path, published("multi"), layout)
    answer = told(capsys, "verify", source, *options("multi"))
    assert answer["fits"] and answer["keys"]["missing"] == []
    for name in ("fingerprint", "weights hash"):
        assert answer[name] == expected[name]
    image = answer["fingerprint"]["image"]
    assert len(image) == 1 and len(image[0]) == 8


def test_other_weights_have_another_fingerprint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = published("dual")
    first = told(capsys, "verify", write(tmp_path, weights), *options("dual"))["fingerprint"]
    weights["text.proj.weight"] = weights["text.proj.weight"] * -1
    second = told(capsys, "verify", write(tmp_path, weights), *options("dual"))["fingerprint"]
    assert len(first["image"]) == len(first["text"]) == 2
    assert first["image"] == second["image"] and first["hash"] != second["hash"]
    assert first["text"] == [[-number + 0.0 for number in row] for row in second["text"]]


def test_options_of_the_model_are_overrides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    for more in ("+lora=published", "model.logit_bias_init=0.0"):
        source = write(tmp_path, published("single", more))
        assert run("verify", source, *options("single")) == 1
        assert told(capsys, "verify", source, *options("single"), more)["fits"]


def test_inspect_says_what_a_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, "inspect", write(tmp_path, published("dual")))
    assert (answer["system"], answer["names"]) == ("hlip", "published")
    assert answer["layout"] == "pytorch, under state_dict, names with module."
    assert answer["beside"] == {"epoch": 3, "name": "run", "optimizer": "dict of 1"}
    assert answer["facts"]["prefix tokens"] == 2 and answer["facts"]["patch size"] == [2, 4, 4]
    assert answer["dtypes"] == {"float32": answer["tensors"]} and answer["models"] == []
    assert run("inspect", write(tmp_path, published("dual"))) == 0
    assert "two softmax (logit_bias is the second scale)" in capsys.readouterr().out


def test_inspect_tells_a_file_of_no_known_system(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = told(capsys, "inspect", write(tmp_path, {"w": torch.tensor([1.0, float("nan")])}))
    assert (answer["system"], answer["names"], answer["not finite"]) == (None, "unknown", ["w"])


@pytest.mark.parametrize("name", [SINGLE, MULTI, DUAL])
def test_the_model_config_is_guessed_from_the_shapes(name: str) -> None:
    facts = facts_of(build_model(model_tree(name), only_shapes=True))
    twins = {MULTI: ["hlip_vit_base_multiscan_h3_token1176"]}
    twins[DUAL] = ["hlip_vit_base_slice_scan_study_dualdinotxt1568"]
    assert fitting_models(facts) == sorted([name, *twins.get(name, [])])
    lora = fitting_models(facts | {"text LoRA": "rank 4 on query, value"})
    assert lora[0].endswith(" +lora=published model.text.lora.rank=4")


def test_every_model_config_of_the_system_is_recognised() -> None:
    for name in model_names():
        if name.startswith("hlip"):
            facts = facts_of(build_model(model_tree(name), only_shapes=True))
            assert facts["width"] and facts["text layers"]


BAD: dict[str, tuple[list[str], str]] = {
    "no file": (["verify", "{dir}/none.pt", "--model", SINGLE], "no weight file at"),
    "no model": (["verify", "{file}"], "needs --model NAME of conf/model; python -m"),
    "a typing error": (
        ["verify", "{file}", "--model", "hlip_vit_base_multiscan_h2_token116"],
        "there is no model 'hlip_vit_base_multiscan_h2_token116'; did you mean",
    ),
    "an unknown key": (
        ["verify", "{file}", "--model", SINGLE, "model.vison.num_heads=3"],
        "did you mean model.vision.num_heads",
    ),
    "a wrong model": (
        ["convert", "{file}", "{dir}/o.pt", "--model", MULTI, "--to", "ours"],
        "does not fit (patch size: [2, 4, 4] in the file, [8, 16, 16] in the model;",
    ),
    "a file in the way": (
        ["convert", "{file}", "{file}", "--model", SINGLE, "--to", "ours"],
        "is already there; add --force to replace it",
    ),
    "another format": (
        ["convert", "{file}", "{dir}/o.npz", "--model", SINGLE, "--to", "ours"],
        "must end with one of .pt, .pth, .bin, .safetensors",
    ),
    "flat safetensors": (
        ["convert", "{file}", "{dir}/o.safetensors", "--to", "ours", "--layout", "nested"],
        "safetensors files are flat",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_one_line_and_code_2(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, published("single"))
    arguments, message = BAD[case]
    assert run(*(text.format(file=file, dir=tmp_path) for text in arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("medvlp: ") and message in lines[0]
    assert sorted(tmp_path.iterdir()) == [file]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    file = write(tmp_path, published("single"), "bare")
    target = tmp_path / "ours.safetensors"
    assert run("convert", file, target, *options("single"), "--to", "ours") == 0
    assert target.stat().st_mode == file.stat().st_mode


def test_force_replaces(tmp_path: Path) -> None:
    file = write(tmp_path, published("single"), "bare")
    assert run("convert", file, file, *options("single"), "--to", "ours", "--force") == 0
    assert "logit_scale" in open_weights(file).tensors
    assert open_weights(file).tensors["logit_scale"].shape == (1,)


def test_a_misfit_is_code_1_with_all_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = published("single")
    del weights["visual.trunk.norm.bias"]
    weights["extra"] = torch.ones(2)
    assert run("verify", write(tmp_path, weights), *options("single"), "--json") == 1
    answer, error = capsys.readouterr()
    keys = json.loads(answer)["keys"]
    assert keys["missing"] == ["vision.norm.bias"] and keys["unexpected"] == ["extra"]
    assert len(error.strip().splitlines()) == 1
    assert "1 missing here (the model has it, the file does not): vision.norm.bias" in error
    weights = published("single")
    weights["logit_scale"] = torch.tensor(float("nan"))
    assert run("verify", write(tmp_path, weights), *options("single")) == 1
    assert "1 tensors hold NaN or infinity: logit_scale" in capsys.readouterr().err


def test_a_checkpoint_of_ours_brings_its_model_and_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, head = KINDS["single"]
    tree = {"name": "run", "model": model_tree(name, [*TINY, head])}
    carried = {"config": tree, "recipe": {"hash": "abc", "fields": {"size": [4]}}, "commit": "c"}
    state = {f"model.{key}": value for key, value in make("single").state_dict().items()}
    content = {"pytorch-lightning_version": "2.6", "state_dict": state, "medvlp": carried}
    torch.save(content, tmp_path / "run.ckpt")
    answer = told(capsys, "verify", tmp_path / "run.ckpt")
    assert answer["fits"] and answer["recipe"]["hash"] == "abc" and answer["names"] == "ours"
    assert told(capsys, "inspect", tmp_path / "run.ckpt")["beside"]["experiment"] == "run"
    target = tmp_path / "published.pt"
    assert run("convert", tmp_path / "run.ckpt", target, "--to", "published") == 0
    assert "visual.trunk.cls_token" in open_weights(target).tensors


def test_help_does_not_wait_for_heavy_imports() -> None:
    script = (
        "import sys; from medvlp.checkpoints.__main__ import _parser; _parser().format_help(); "
        "print({'torch', 'transformers', 'hydra', 'rich'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
    assert config.config_dir().is_dir()
