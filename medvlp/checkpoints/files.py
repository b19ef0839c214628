"""Read published weight files safely, whatever they are wrapped in."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

_WRAPPERS = ("state_dict", "model")
_PARALLEL_PREFIX = "module."


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors or a PyTorch file into a flat dictionary of tensors.

    Never runs code from the file: PyTorch files are read with `weights_only=True`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything but tensors and plain containers, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weight file at {path}; give the path of a .safetensors, .pt or .bin file"
        )
    if path.suffix == ".safetensors":
        return unwrap(load_file(path))
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is not a plain weight file: it holds objects that would run code when read. "
            "Convert it to safetensors where you trust it, and give that file"
        ) from error
    return unwrap(content)


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the weights in the content of a file.

    Opens `state_dict` and `model` entries, however nested, and takes the prefix `module.` off
    where all names carry it.

    Raises:
        ValueError: If there are no tensors, or other things between them.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            return unwrap(content[wrapper])
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"a dictionary of tensors was expected, {type(content).__name__} came; give a file "
            "that holds a state dict, bare or under 'state_dict' or 'model'"
        )
    other = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(
            f"{len(other)} entries are not tensors ({', '.join(map(str, other[:5]))}); give a file "
            "that holds a state dict, bare or under 'state_dict' or 'model'"
        )
    if all(name.startswith(_PARALLEL_PREFIX) for name in content):
        return {name.removeprefix(_PARALLEL_PREFIX): value for name, value in content.items()}
    return dict(content)
