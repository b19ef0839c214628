"""Folders that `export` wrote: a language model that sees, as Hugging Face's libraries read it.

A folder holds `model.safetensors` (merged) or `adapter_model.safetensors` (PEFT's adapter) under
their libraries' names, packers and image towers under ours, the tokenizer, and `medvlp.json`: what
a checkpoint of ours carries.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from medvlp import config

Kind = Literal["adapter", "merged"]

CARRIED = "medvlp"
"""The entry of a training checkpoint of ours with its configuration, recipe and commit."""
MANIFEST = "medvlp.json"
"""The file of a folder with the same."""
LANGUAGE: dict[str, str] = {"adapter": "adapter_model.safetensors", "merged": "model.safetensors"}
"""The file with the language model, or with its low-rank layers."""
OWN_PARTS = {
    "packers.safetensors": ("packer", "guided_packer"),
    "towers.safetensors": ("vision", "guided_vision"),
}
"""Files with parts of the model under our names."""

_PEFT = "base_model.model."
_OURS = "language.decoder."


def is_export(folder: Path) -> bool:
    """Tell whether a folder was written by `export`."""
    return (folder / MANIFEST).is_file()


def read_export(
    folder: Path, read: Callable[[Path], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Any], list[Path]]:
    """Read a folder as a checkpoint of ours.

    Args:
        folder: That `export` wrote.
        read: Reads a safetensors file.

    Returns:
        The tensors under our names, what a checkpoint carries beside them, and the files.

    Raises:
        FileNotFoundError: If a file of it is absent.
        ValueError: If `medvlp.json` is damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        kind, tied, source = manifest["kind"], manifest["tied"], manifest["source"]
        language = LANGUAGE[kind]
        source["tokenizer"]["name_or_path"] = str(folder)  # its files lie beside the weights
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / MANIFEST} is damaged ({error!r}); export the model again"
        ) from error
    files = [folder / name for name in (language, *OWN_PARTS)]
    if absent := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(absent)}; copy the whole folder, or export the model again"
        )
    tensors = {our_name(name): tensor for name, tensor in read(files[0]).items()}
    tensors |= {_OURS + name: tensors[_OURS + twin] for name, twin in tied.items()}
    for file in files[1:]:
        tensors |= read(file)
    carried = {name: manifest[name] for name in ("recipe", "commit")}
    carried |= {"source": source, "config": config.resolve(config.override_tree(source, []))}
    return tensors, {CARRIED: carried}, files


def our_name(name: str) -> str:
    """Translate a name of the language model, or of PEFT's files, to ours."""
    plain = name.removeprefix(_PEFT)
    if ".lora_" in plain:
        plain = plain.removesuffix(".weight") + ".default.weight"
    return _OURS + plain


def library_name(name: str) -> str:
    """Translate one of our names to that of the library that reads it."""
    plain = name.removeprefix(_OURS)
    return _PEFT + plain.replace(".default.", ".") if ".lora_" in plain else plain
