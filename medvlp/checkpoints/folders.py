"""Folders of weights as huggingface.co hands them out: `config.json` and files beside it.

Sizes come from our model configs: nothing of `config.json` is needed, and no path in it followed.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from medvlp.layers.notices import Notices

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model_params.bin",  # a plain state dict, as HSENet's and M3D's code write it
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_ARGUMENTS = "training_args.bin"
_SHOWN = 8
_NOTICES = Notices(__name__)


@dataclass(frozen=True)
class Folder:
    """What a folder of weights holds.

    Attributes:
        files: The weights, in one file or several.
        promised: Names of the tensors in several files, as their index has them.
        beside: What else is there, in plain values.
    """

    files: list[Path]
    promised: set[str]
    beside: dict[str, str]


def look_into(folder: Path) -> Folder:
    """Find the weights of a folder, and tell once what of it is not read.

    Raises:
        FileNotFoundError: If there are none under a usual name, or a part is absent.
        ValueError: If the index of several parts is damaged.
    """
    there = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    chosen = next((name for name in _WEIGHTS if name in there), None)
    if chosen is None:
        found = ", ".join([*there][:_SHOWN]) or "no file"
        raise FileNotFoundError(
            f"{folder} holds no weights under a usual name ({', '.join(_WEIGHTS)}); it holds "
            f"{found}: download the whole repository, or give the weight file itself"
        )
    index = _weight_map(there[chosen]) if chosen.endswith(".index.json") else {}
    names = sorted(set(index.values())) or [chosen]
    absent = [name for name in names if name not in there]
    if absent:
        raise FileNotFoundError(
            f"{there[chosen]} names {len(names)} files, {len(absent)} of which are not there: "
            f"{', '.join(absent[:_SHOWN])}; download them, too"
        )
    beside = _beside(there, names)
    if told := [f"{what}: {value}" for what, value in beside.items() if what != "model_type"]:
        _NOTICES.once(str(folder), f"{folder}: {'; '.join(told)}")
    return Folder([there[name] for name in names], set(index), beside)


def _weight_map(path: Path) -> dict[str, str]:
    """Read which tensor lies in which file; names of files, no paths."""
    try:
        index = json.loads(path.read_text())["weight_map"]
        return {str(name): str(file) for name, file in index.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no index of weight files ({error!r}); download it again"
        ) from error


def _beside(there: dict[str, Path], read: list[str]) -> dict[str, str]:
    config = _config(there)
    paths = {key: value for key, value in config.items() if _is_path(value)}
    unread = [n for n in there if n.endswith(_OTHER_WEIGHTS) and n not in read]
    beside = {"model_type": str(config["model_type"])} if "model_type" in config else {}
    if paths:
        listed = ", ".join(f"{key}={value}" for key, value in paths.items())
        beside["paths not followed"] = listed
    if others := [name for name in unread if name != _ARGUMENTS]:
        beside["not read"] = ", ".join(others)
    if _ARGUMENTS in unread:
        beside["never read"] = f"{_ARGUMENTS}, a pickle that could run code"
    return beside


def _config(there: dict[str, Path]) -> dict[str, Any]:
    try:
        config = json.loads(there["config.json"].read_text()) if "config.json" in there else {}
    except ValueError:
        config = None
    return config if isinstance(config, dict) else {"model_type": "config.json is damaged"}


def _is_path(value: Any) -> bool:
    """Tell whether a value is the place of a file on somebody's machine, not a name on the hub."""
    if not isinstance(value, str):
        return False
    return any(kind(value).is_absolute() for kind in (PurePosixPath, PureWindowsPath))
