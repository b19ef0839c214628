"""Read published weight files safely, whatever they are wrapped in."""

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import safe_globals

from medvlp.checkpoints.encrypted import MAGIC
from medvlp.checkpoints.exported import is_export, read_export
from medvlp.checkpoints.folders import look_into

Container = Literal["pytorch", "safetensors"]

_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # data parallelism, torch.compile
_SYSTEM_PREFIX = "model."  # of a Lightning system
_LIGHTNING = "pytorch-lightning_version"
# A learning rate that is a NumPy number, as released training checkpoints hold beside the weights,
# under the paths of NumPy 1 and 2. These build one number from bytes and run nothing else.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_NUMBER = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    np.dtypes.Float64DType,
]
# What a damaged or foreign file makes the reader raise.
_UNREADABLE = (RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError)


@dataclass(frozen=True)
class Layout:
    """How a file wraps its weights.

    Attributes:
        container: The file format.
        wrappers: Entries that had to be opened, the outermost first.
        prefix: What all names began with, and was taken off.
        lightning: Whether it is a training checkpoint of ours.
    """

    container: Container
    wrappers: tuple[str, ...] = ()
    prefix: str = ""
    lightning: bool = False

    def __str__(self) -> str:
        """Say it in words."""
        parts = [self.container]
        if self.lightning:
            parts.append("training checkpoint of ours")
        parts.append(f"under {'.'.join(self.wrappers)}" if self.wrappers else "bare")
        if self.prefix:
            parts.append(f"names with {self.prefix}")
        return ", ".join(parts)


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
        path: Where it lies.
        tensors: By name, without wrappers and prefix.
        layout: The wrappers and the prefix.
        beside: What else the file holds, such as `epoch` and `name`.
        parts: Files of a folder that were read.
    """

    path: Path
    tensors: dict[str, Tensor]
    layout: Layout
    beside: dict[str, Any] = field(default_factory=dict)
    parts: Sequence[Path] = ()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(part.stat().st_size for part in self.parts or [self.path])


def open_weights(path: str | Path) -> WeightFile:
    """Read a safetensors or a PyTorch file, or a folder of them as huggingface.co has it.

    Never runs code from the file: PyTorch files are read with `weights_only=True`, which lets
    tensors, plain containers and NumPy's double-precision numbers through.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or holds anything but tensors and plain containers, or
            no tensors.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weight file at {path}; give the path of a .safetensors, .pt or .bin file, or of a "
            "folder with model.safetensors"
        )
    container = _container_of(path)
    content = _read_safetensors(path) if container == "safetensors" else _read_pytorch(path)
    try:
        tensors, layout = _open(content, container)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    beside = {name: content[name] for name in content if name not in _WRAPPERS}
    return WeightFile(path, tensors, layout, beside if layout.wrappers else {})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file, see `open_weights`."""
    return open_weights(path).tensors


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Find the weights in the content of a file.

    Opens `state_dict` and `model` entries, however nested, and takes the prefix `module.` off
    where all names carry it.

    Raises:
        ValueError: If there are no tensors, or other things between them.
    """
    return _open(content, "pytorch")[0]


def _open_folder(folder: Path) -> WeightFile:
    if is_export(folder):
        tensors, beside, files = read_export(folder, _read_safetensors)
        return WeightFile(folder, tensors, Layout("safetensors"), beside, files)
    found = look_into(folder)
    parts = [open_weights(file) for file in found.files]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    if lost := sorted(
        found.promised - {p.layout.prefix + name for p in parts for name in p.tensors}
    ):
        raise ValueError(
            f"{folder}: {len(lost)} tensors of its index are in none of its {len(parts)} files "
            f"({', '.join(lost[:3])}); download it again"
        )
    return WeightFile(folder, tensors, parts[0].layout, dict(found.beside), found.files)


def _open(content: Mapping[str, Any], container: Container) -> tuple[dict[str, Tensor], Layout]:
    lightning = isinstance(content, Mapping) and _LIGHTNING in content
    wrappers: list[str] = []
    while isinstance(content, Mapping):
        found = [name for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not found:
            break
        wrappers.append(found[0])
        content = content[found[0]]
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
    tensors, prefix = dict(content), ""
    if lightning:  # the loss of a system may have weights as well: they are not the model's
        tensors = {name: tensors[name] for name in tensors if name.startswith(_SYSTEM_PREFIX)}
        tensors, prefix = _without(_SYSTEM_PREFIX, tensors), _SYSTEM_PREFIX
    while shared := [p for p in _PREFIXES if all(name.startswith(p) for name in tensors)]:
        tensors, prefix = _without(shared[0], tensors), prefix + shared[0]
    return tensors, Layout(container, tuple(wrappers), prefix, lightning)


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not tensors:
        raise ValueError("it holds no weights of a model; give a checkpoint of medvlp.train")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _container_of(path: Path) -> Container:
    """Look at the first bytes: names lie, and downloads fail in known ways.

    Raises:
        ValueError: If the file is empty, a web page, a pointer to a large file, or cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError(f"{path} is empty; download or copy it again")
    if head.lstrip().startswith(b"<"):
        raise ValueError(
            f"{path} is a web page, not weights: the download asked for a login or a confirmation; "
            "download it again in a browser"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not weights; run git lfs pull there")
    if head.startswith(MAGIC):
        raise ValueError(
            f"{path} is encrypted; with its key in a file, python -m medvlp.checkpoints decrypt "
            f"{path} params.pth --key-file FILE writes the weights that are within"
        )
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is cut off after {size:,} bytes; download or copy it again")
    return "safetensors" if head[8:9] == b"{" else "pytorch"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is a damaged safetensors file ({error}), perhaps cut off; download or copy "
            "it again"
        ) from error


def _read_pytorch(path: Path) -> Any:
    mmap = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
    try:
        # opened here, because by its name torch would take some for safetensors
        with safe_globals(_NUMPY_NUMBER), path.open("rb") as file:
            source = path if mmap else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise ValueError(_unreadable(path, error)) from error
        raise ValueError(
            f"{path} is not a plain weight file: it holds objects ({found[1]}) that would run code "
            "when read. Convert it to safetensors where you trust it, and give that file"
        ) from error
    except _UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return (
        f"{path} is damaged, cut off or no PyTorch weight file ({reason}); download or copy it "
        "again"
    )
