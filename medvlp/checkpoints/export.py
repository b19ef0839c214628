"""Write a language model that sees as folders that Hugging Face's libraries read."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from hydra.utils import instantiate
from torch import Tensor, nn
from transformers import GenerationConfig

from medvlp import config
from medvlp.checkpoints.conversion import readable, write_weights
from medvlp.checkpoints.exported import CARRIED, LANGUAGE, MANIFEST, OWN_PARTS, Kind, library_name
from medvlp.checkpoints.files import WeightFile
from medvlp.checkpoints.fingerprint import weights_hash
from medvlp.checkpoints.hsenet_vlm import AdapterPart
from medvlp.checkpoints.model_configs import build_model
from medvlp.checkpoints.systems import load_weights
from medvlp.checkpoints.vlm_adapter import adapter_start
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.text.lora import merge_low_rank

_OURS = "language.decoder."


def export_file(
    file: WeightFile,
    folder: Path,
    *,
    kind: Kind,
    experiment: str | None = None,
    overrides: Sequence[str] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Write a folder with weights, tokenizer and configuration; never half of it.

    Args:
        file: A checkpoint of ours, or an adapter.
        folder: To write; `evaluate`, `predict` and the other verbs take it as a checkpoint.
        kind: "merged": the language model with the low-rank layers added to its weights, for
            AutoModelForCausalLM. "adapter": these layers alone, for PEFT.
        experiment: Which the weights belong to; files of others do not carry theirs.
        overrides: key=value of the tree.
        force: Replace an export that is there.

    Returns:
        What was written.

    Raises:
        FileExistsError: If the folder is there and not to be replaced, or is no export.
        ValueError: If the model is of another kind, or cannot be written so.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"cannot export as {kind!r}; choose of {', '.join(get_args(Kind))}")
    _require_room(folder, force=force)
    carried = _carried(file, experiment, overrides)
    tree = carried["config"]
    model = _model(file, tree)
    _check(model, tree, kind)
    with _whole(folder) as aside:
        _write_parts(model, carried, aside, kind)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return {"folder": str(folder), "as": kind, "files": files, "from": weights_hash(file.tensors)}


def _require_room(folder: Path, *, force: bool) -> None:
    if folder.exists() and not force:
        raise FileExistsError(f"{folder} is already there; add --force to replace it")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise FileExistsError(
            f"{folder} is there and no export (it has no {MANIFEST}): it is not replaced; name "
            "another folder"
        )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes the other's place once all is there."""
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _write_parts(model: nn.Module, carried: Mapping[str, Any], folder: Path, kind: Kind) -> None:
    tied = _write_language(model, carried["config"], folder, kind)
    for name, parts in OWN_PARTS.items():
        kept = {n: t for n, t in model.state_dict().items() if n.split(".")[0] in parts}
        write_weights(folder / name, kept)
    manifest = {"kind": kind, "tied": tied, "source": _source(carried["source"], model, kind)}
    manifest |= {name: carried[name] for name in ("recipe", "commit")}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _carried(file: WeightFile, experiment: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Take the configuration that a checkpoint carries, or that of an experiment."""
    carried: dict[str, Any] | None = file.beside.get(CARRIED)
    if experiment is not None:
        cfg = config.compose([f"experiment={experiment}", *overrides])
    elif carried is not None:
        cfg = config.override_tree(carried["source"], overrides)
    else:
        raise ValueError(
            f"{file.path} carries no configuration (it was not written by medvlp.train); name its "
            "experiment, as in --experiment hsenet_mrg"
        )
    tree = config.resolve(cfg)
    if carried is None:
        recipe = instantiate(tree["data"]["recipe"], _convert_="all")
        carried = {"recipe": {"hash": recipe.hash, "fields": recipe.describe()}, "commit": None}
    return {**carried, "config": tree, "source": config.plain(cfg)}


def _model(file: WeightFile, tree: Mapping[str, Any]) -> nn.Module:
    start = adapter_start(file, tree)
    if start is not None:
        model = instantiate(tree["model"], _convert_="all")
        instantiate(start)(model)
        return model.eval()
    model = build_model(tree["model"])
    load_weights(model, file.tensors)
    return model.eval()


def _check(model: nn.Module, tree: Mapping[str, Any], kind: Kind) -> None:
    if not isinstance(model, HSENetVLM):
        raise ValueError(
            f"a {type(model).__name__} is no language model that sees; "
            "python -m medvlp.checkpoints convert writes the weights of other models"
        )
    language = tree["model"]["language"]
    if kind == "merged" and language.get("quantization"):
        raise ValueError(
            "low-rank layers cannot be merged into weights in bytes; add "
            "model.language.quantization=null with the base that they were trained on, or export "
            "--as adapter"
        )
    if kind == "adapter" and not any(".lora_" in name for name in model.state_dict()):
        raise ValueError(
            "the language model has no low-rank layers: it was trained whole, and there is no "
            "adapter; export --as merged"
        )
    if kind == "adapter" and not language.get("pretrained"):
        raise ValueError(
            "an adapter belongs to the weights it was trained on, and the configuration names "
            "none; add model.language.pretrained=FOLDER_OR_HUB_NAME, or export --as merged"
        )


def _write_language(
    model: nn.Module, tree: Mapping[str, Any], folder: Path, kind: Kind
) -> dict[str, str]:
    """Write language model and tokenizer; return which names share a tensor that is there once."""
    assert isinstance(model, HSENetVLM)
    tokenizer = instantiate(tree["tokenizer"], _convert_="all")
    tokenizer.save(folder)
    decoder: Any = model.language.decoder
    if kind == "adapter":
        settings = decoder.peft_config["default"]
        settings.base_model_name_or_path = tree["model"]["language"]["pretrained"]
        settings.task_type, settings.inference_mode = "CAUSAL_LM", True
        settings.save_pretrained(folder)
        low_rank = {n: t for n, t in AdapterPart(model).state_dict().items() if ".lora_" in n}
        write_weights(folder / LANGUAGE[kind], {library_name(n): t for n, t in low_rank.items()})
        return {}
    merge_low_rank(decoder)
    decoder.config.eos_token_id = decoder.config.bos_token_id = tokenizer.end_id
    decoder.config.pad_token_id = tokenizer.pad_id
    decoder.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[tokenizer.end_id, *tree["system"].get("stop_ids", ())],
        pad_token_id=tokenizer.pad_id,
        max_new_tokens=tree["system"].get("max_new_tokens"),
    )
    decoder.save_pretrained(folder, max_shard_size="1TB")
    (folder / LANGUAGE[kind]).chmod(readable())
    return _tied(decoder.state_dict())


def _tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Pair the names of a tensor that has several; files hold it once, under the first."""
    first: dict[int, str] = {}
    return {
        name: first[tensor.data_ptr()]
        for name, tensor in tensors.items()
        if first.setdefault(tensor.data_ptr(), name) != name
    }


def _source(source: Mapping[str, Any], model: nn.Module, kind: Kind) -> dict[str, Any]:
    """Change the configuration to what the folder holds."""
    told = json.loads(json.dumps(source))
    told["init"] = None
    if kind == "merged":
        assert isinstance(model, HSENetVLM)
        language = told["model"]["language"]
        language |= {"lora": None, "pretrained": None, "quantization": None}
        if not language.get("config"):
            language["config"] = json.loads(model.language.decoder.config.to_json_string())
    return told
