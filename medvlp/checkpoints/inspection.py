"""What a weight file is, without building its model."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from medvlp.checkpoints.exported import CARRIED
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.fingerprint import not_finite, weights_hash
from medvlp.checkpoints.model_configs import fitting_models
from medvlp.checkpoints.systems import naming, recognise

_SHORT = 8  # of lists that are told in full


def inspect_file(path: str | Path) -> dict[str, Any]:
    """Describe a weight file in plain values.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read safely, or holds no weights.
    """
    file = open_weights(path)
    system, _, facts = recognise(file.tensors)
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in file.tensors.values())
    return {
        "file": str(file.path),
        "bytes": file.size,
        "layout": str(file.layout),
        "names": naming(file.tensors),
        "tensors": len(file.tensors),
        "parameters": sum(tensor.numel() for tensor in file.tensors.values()),
        "dtypes": dict(dtypes),
        "not finite": not_finite(file.tensors),
        "weights hash": weights_hash(file.tensors),
        "system": None if system is None else system.name,
        "source": None if system is None else system.published.source,
        "published result": None if system is None else system.result,
        "facts": facts,
        "models": fitting_models(facts) if facts else [],
        "beside": describe_beside(file),
    }


def describe_beside(file: WeightFile) -> dict[str, Any]:
    """Tell what a file holds beside its weights: plain values, and the size of all else."""
    told: dict[str, Any] = {}
    for name, value in file.beside.items():
        if isinstance(value, (int, float, str, bool)) or value is None or _is_short(value):
            told[name] = value
        elif name == CARRIED:
            told |= {"recipe": value["recipe"]["hash"], "commit": value["commit"]}
            told["experiment"] = value["config"]["name"]
        elif isinstance(value, torch.Tensor):
            told[name] = f"tensor {list(value.shape)}"
        else:
            told[name] = f"{type(value).__name__} of {len(value)}"
    return told


def _is_short(value: Any) -> bool:
    """Tell a few numbers or words, as a spacing in mm is."""
    plain = isinstance(value, list) and all(isinstance(item, (int, float, str)) for item in value)
    return plain and len(value) <= _SHORT


def carried_model(file: WeightFile) -> dict[str, Any] | None:
    """Return the model config that a training checkpoint of ours carries."""
    return file.beside[CARRIED]["config"]["model"] if CARRIED in file.beside else None
