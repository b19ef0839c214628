"""HSENet's language model from an adapter: packers and low-rank layers over files of their own."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    StateDict,
    load_published,
)
from medvlp.checkpoints.files import WeightFile, open_weights
from medvlp.checkpoints.hsenet_vlm import AdapterPart, adapter_part
from medvlp.checkpoints.systems import differences, is_adapter, table_for
from medvlp.checkpoints.vlm_init import TowersInit
from medvlp.models.hsenet_vlm import HSENetVLM

_LOG = logging.getLogger(__name__)


class AdapterInit:
    """Start packers and low-rank layers from an adapter, published or of ours.

    The language model keeps what `model.language.pretrained` gave it. Without low-rank layers in
    model and file, the packers alone are filled.

    Args:
        path: The published file, or a folder that `medvlp.checkpoints export --as adapter` wrote.
        towers: Checkpoint of the second stage that both image towers start from; a folder of ours
            has them inside.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    in_evaluation = True

    def __init__(self, path: str, towers: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(
                f"no adapter at {path}; give the published pytorch_model.bin, or a folder that "
                "medvlp.checkpoints export wrote, with init.path=FILE"
            )
        self.towers = None if towers is None else TowersInit(towers)

    def __call__(self, model: nn.Module) -> LoadReport:
        """Fill the model, strictly, and log what was loaded.

        Raises:
            CheckpointMismatchError: If anything is missing, unexpected or misshapen.
            ValueError: If the file is no adapter, nothing says what the towers start from, or the
                model is another.
        """
        if not isinstance(model, HSENetVLM):
            raise ValueError(
                f"init=adapter fills an HSENetVLM, a {type(model).__name__} came; choose another "
                "init, or a model such as hsenet_phi4"
            )
        tensors = open_weights(self.path).tensors
        if not is_adapter(tensors):
            raise ValueError(
                f"{self.path} is no adapter (packers and low-rank layers alone); for whole models "
                "choose init=published"
            )
        part = adapter_part(model, tensors)
        if self.towers is not None:
            self.towers(model)
        elif not hasattr(part, "vision"):
            raise ValueError(
                f"{self.path} has no image towers; give a checkpoint of HSENet's second stage to "
                "take them from, with init.towers=FILE"
            )
        report = _load(part, tensors, self.path, model)
        _LOG.info("packers and low-rank layers from %s: %s", self.path, report)
        return report


def load_adapter(model: HSENetVLM, tensors: StateDict) -> LoadReport:
    """Fill packers and low-rank layers, strictly; towers too, where they are in the file.

    Raises:
        CheckpointMismatchError: If anything is missing, unexpected or misshapen.
    """
    return _load(adapter_part(model, tensors), tensors, "the adapter", model)


def adapter_start(file: WeightFile, tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """Say what fills a model for the evaluation of an adapter.

    Args:
        file: Of weights.
        tree: Of the run. What its training starts from has the towers.

    Returns:
        Config of an `AdapterInit`; None if the file is no adapter.

    Raises:
        ValueError: If the language model of the tree has no weights of its own.
    """
    if not is_adapter(file.tensors):
        return None
    if not tree["model"].get("language", {}).get("pretrained"):
        raise ValueError(
            f"{file.path} is an adapter, and the language model under it would start at random; "
            "give its weights with model.language.pretrained=FOLDER"
        )
    init = tree.get("init") or {}
    inside = any(name.startswith("vision.") for name in file.tensors)
    return {
        "_target_": "medvlp.checkpoints.vlm_adapter.AdapterInit",
        "path": str(file.path),
        "towers": None if inside else init.get("towers") or init.get("path"),
    }


def _load(part: AdapterPart, tensors: StateDict, name: str | Path, model: HSENetVLM) -> LoadReport:
    try:
        return load_published(part, tensors, table_for(part, tensors))
    except CheckpointMismatchError as error:
        told = differences(model, tensors)
        raise CheckpointMismatchError(error.report, name=str(name), differences=told) from None
