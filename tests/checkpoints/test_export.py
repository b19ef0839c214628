"""What `export` writes gives the same numbers in a new process, to us and to others' libraries."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.checkpoints.export import export_file
from medvlp.checkpoints.exported import CARRIED
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.systems import load_weights
from medvlp.checkpoints.vlm_adapter import adapter_start
from medvlp.models.hsenet_vlm import HSENetVLM
from tests.checkpoints.vlm_trees import LORA, logits_of, make_trained, vlm_tree, write_base
from tests.models.tiny_vlm import NUM_IMAGE_TOKENS, WORDS, make_tokenizer

pytest.importorskip("peft")
IDS = torch.arange(12).reshape(2, 6) % len(WORDS)
OURS = """
import sys, torch
from hydra.utils import instantiate
from medvlp.checkpoints.exported import CARRIED
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.systems import load_weights
from medvlp.checkpoints.vlm_adapter import adapter_start
from tests.checkpoints.vlm_trees import logits_of

file = open_weights(sys.argv[1])
tree = file.beside[CARRIED]["config"]
model = instantiate(tree["model"], _convert_="all").eval()
start = adapter_start(file, tree)
load_weights(model, file.tensors) if start is None else instantiate(start)(model)
torch.save(logits_of(model), sys.argv[2] + ".ours")
"""
MERGED = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
assert len(tokenizer) == model.config.vocab_size and tokenizer.eos_token == "<end>"
assert model.generation_config.eos_token_id == [0, 3]
with torch.no_grad():
    torch.save(model(torch.load(sys.argv[3])).logits, sys.argv[2])
"""
ADAPTER = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained(sys.argv[4])
model = PeftModel.from_pretrained(base, sys.argv[1]).eval()
with torch.no_grad():
    torch.save(model(torch.load(sys.argv[3])).logits, sys.argv[2])
"""


def checkpoint(folder: Path, model: HSENetVLM, model_tree: dict[str, Any]) -> WeightFile:
    """Return a checkpoint as training leaves it."""
    tokenizer = make_tokenizer(folder)
    tree = {
        "name": "tiny",
        "model": model_tree,
        "system": {"max_new_tokens": 8, "stop_ids": [3]},
        "init": {"_target_": "medvlp.checkpoints.vlm_init.TowersInit", "path": "gone.ckpt"},
        "tokenizer": {
            "_target_": "medvlp.text.conversation_tokenizer.ConversationTokenizer",
            "name_or_path": tokenizer.name_or_path,
            "max_length": 40,
            "num_image_tokens": NUM_IMAGE_TOKENS,
            "end_token": "<end>",
        },
    }
    beside = {"recipe": {"hash": "0", "fields": {}}, "commit": "none"}
    beside |= {"config": tree, "source": tree}
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "pytorch-lightning_version": "2.6.0",
        CARRIED: beside,
    }
    torch.save(content, folder / "best.ckpt")
    return open_weights(folder / "best.ckpt")


def in_new_process(code: str, folder: Path, *more: Path) -> tuple[Tensor, Tensor]:
    """Score with our model, and words alone with that of another library."""
    out = folder / "logits.pt"
    torch.save(IDS, folder / "ids.pt")
    arguments = [str(path) for path in (folder, out, folder / "ids.pt", *more)]
    command = [sys.executable, "-c", OURS + code, *arguments]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    return torch.load(f"{out}.ours"), torch.load(out)


def export(file: WeightFile, folder: Path, *options: str) -> None:
    from medvlp.checkpoints.__main__ import main

    with pytest.raises(SystemExit) as end:
        main(["export", str(file.path), str(folder), "--json", *options])
    assert end.value.code == 0


def words(model: HSENetVLM) -> Tensor:
    """Score the next words of a text without an image."""
    with torch.no_grad():
        return model.language(model.language.embed(IDS), torch.ones_like(IDS).bool())


def test_an_adapter_is_read_by_us_and_by_peft(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    model = make_trained(base)
    export(checkpoint(tmp_path, model, vlm_tree(base)), tmp_path / "out", "--as", "adapter")
    ours, theirs = in_new_process(ADAPTER, tmp_path / "out", base)
    assert torch.equal(ours, logits_of(model))
    # the base has rows that were cut from the vocabulary, and no added ones
    kept = len(WORDS)
    assert torch.equal(theirs[..., :kept], words(model)[..., :kept])
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base) and settings["r"] == 2


def test_a_merged_model_is_read_by_us_and_by_transformers(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    model = make_trained(base)
    export(checkpoint(tmp_path, model, vlm_tree(base)), tmp_path / "out", "--as", "merged")
    ours, theirs = in_new_process(MERGED, tmp_path / "out")
    # merging adds two float32 matrices where the layers add their outputs: rounding alone
    torch.testing.assert_close(ours, logits_of(model), rtol=0, atol=2e-5)
    torch.testing.assert_close(theirs, words(model), rtol=0, atol=2e-5)
    file = open_weights(tmp_path / "out")
    tree = file.beside[CARRIED]["config"]
    assert tree["model"]["language"]["lora"] is None and tree["init"] is None
    assert tree["tokenizer"]["name_or_path"] == str(tmp_path / "out")


def test_a_model_trained_whole_is_merged_bit_by_bit_and_has_no_adapter(tmp_path: Path) -> None:
    model = make_trained(None, None)
    file = checkpoint(tmp_path, model, vlm_tree(None, None))
    export(file, tmp_path / "out", "--as", "merged")
    again = open_weights(tmp_path / "out")
    assert adapter_start(again, {"model": vlm_tree(None, None)}) is None
    fresh = make_trained(None, None)
    for parameter in fresh.parameters():
        parameter.data.zero_()
    load_weights(fresh, again.tensors)
    assert torch.equal(logits_of(fresh), logits_of(model))
    told = fails(file, tmp_path / "adapter", "--as", "adapter")
    assert "no low-rank layers" in told and not (tmp_path / "adapter").exists()


def fails(file: WeightFile, folder: Path, *options: str) -> str:
    with pytest.raises((ValueError, OSError)) as error:
        export_file(file, folder, kind="adapter" if "adapter" in options else "merged")
    return str(error.value)


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    tree = vlm_tree(None, LORA)
    file = checkpoint(tmp_path, make_trained(None), tree)
    assert "names none; add model.language.pretrained" in fails(file, tmp_path / "a", "adapter")
    assert "--force" in fails(file, tmp_path, "merged")
    with pytest.raises(FileExistsError, match="no export"):  # a folder of other things stays
        export_file(file, tmp_path, kind="merged", force=True)
    assert file.path.is_file()
    bare = WeightFile(file.path, file.tensors, file.layout)
    assert "--experiment hsenet_mrg" in fails(bare, tmp_path / "a", "merged")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "medvlp.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        open_weights(damaged)
