"""Where a fresh run starts from: an option of the configuration, as `init=mae init.path=FILE`.

The system calls the object once with the whole model before training, never on resuming.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    StateDict,
    compare,
    load_published,
)
from medvlp.checkpoints.files import read_weights
from medvlp.checkpoints.hsenet_rules import CLIP
from medvlp.checkpoints.mae import init_from_mae
from medvlp.checkpoints.metaclip import init_from_metaclip
from medvlp.checkpoints.published_systems import OUR_NAMES
from medvlp.checkpoints.systems import load_vision, load_weights
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.vision.anatomy_vit import AnatomyViT
from medvlp.vision.hierarchical_vit import HierarchicalViT

Part = Literal["model", "vision"]

_SLICE_PARTS = ("vision.slice_attention.", "vision.patch_score.")

_LOG = logging.getLogger(__name__)


class FileInit:
    """What starts from the weights of one file, in training alone.

    Args:
        path: Of the file.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    in_evaluation = False

    def __init__(self, path: str) -> None:
        self.path = existing(path)


class MAEInit(FileInit):
    """Start the image tower from a 2D masked autoencoder; the text tower keeps its own start.

    Args:
        path: Weights of a 2D ViT encoder of the same width and depth.
    """

    def __call__(self, model: nn.Module) -> LoadReport:
        """Fill `model.vision` and log what became of every weight.

        Raises:
            CheckpointMismatchError: If the weights do not fit the tower.
            ValueError: If the weights or the tower do not suit.
        """
        vision = getattr(model, "vision", None)
        if not isinstance(vision, (HierarchicalViT, AnatomyViT)):
            raise ValueError(
                f"init=mae fills a HierarchicalViT or an AnatomyViT, model.vision is a "
                f"{type(vision).__name__}; choose init=none"
            )
        report = init_from_mae(vision, self.path)
        own = f"; kept their own start: {', '.join(report.missing)}" if report.missing else ""
        _LOG.info("image tower from %s: %d tensors loaded%s", self.path, len(report.loaded), own)
        return report


class MetaCLIPInit(FileInit):
    """Start the image tower, its projection and the scale from MetaCLIP, as UniMed-CLIP starts.

    MetaCLIP's text tower is dropped, the model's own keeps its start. Positions of another image
    size are resized.

    Args:
        path: A MetaCLIP file of the same patch, width and depth, such as `b16_400m.pt`.
    """

    def __call__(self, model: nn.Module) -> LoadReport:
        """Fill the image side and log what became of every weight.

        Raises:
            CheckpointMismatchError: If the weights do not fit the tower.
            ValueError: If the file or the model is of another kind.
        """
        report = init_from_metaclip(model, self.path)
        _LOG.info(
            "image tower, projection and scale from %s: %d tensors loaded, %d of its text tower "
            "dropped, %d tensors of ours keep their own start%s",
            self.path,
            len(report.loaded),
            len(report.ignored),
            len(report.missing),
            "".join(f"; {name} resized, {how}" for name, how in report.resized.items()),
        )
        return report


class PublishedInit:
    """Start from a published file, or from a checkpoint of ours: weights only, strict.

    Args:
        path: File or folder in any published layout, or a file written by `medvlp.train`.
        part: "model" for everything, "vision" for the image tower alone.
        in_evaluation: Load also where nothing is trained, so that published weights are evaluated.
        resize_positions: Resize positions that were learnt at another image size; without it such
            a file does not fit.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `part` is unknown.
    """

    def __init__(
        self,
        path: str,
        *,
        part: Part = "model",
        in_evaluation: bool = False,
        resize_positions: bool = False,
    ) -> None:
        if part not in get_args(Part):
            raise ValueError(f"init.part {part!r} is unknown; choose {', '.join(get_args(Part))}")
        self.path = existing(path)
        self.part = part
        self.in_evaluation = in_evaluation
        self.resize_positions = resize_positions

    def __call__(self, model: nn.Module) -> LoadReport:
        """Load strictly and log what became of every weight.

        Raises:
            CheckpointMismatchError: If anything is missing, unexpected or misshapen.
        """
        load = load_weights if self.part == "model" else load_vision
        report = load(model, self.path, resize_positions=self.resize_positions)
        _LOG.info("%s from %s: %s", self.part, self.path, report)
        return report


class SecondStageInit:
    """Start HSENet's second stage from the first: the frozen teacher, and the model itself.

    Strict, but that the model's parts for slices keep their own start: the first stage has none. A
    model without a teacher is filled alone.

    Args:
        path: Checkpoint of the first stage, written by `medvlp.train`, or a published file or
            folder.
        student: File that the model itself starts from instead, in the same layouts, such as
            M3D-CLIP; the published code starts it so.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    in_evaluation = False

    def __init__(self, path: str, *, student: str | None = None) -> None:
        self.path = existing(path)
        self.student = self.path if student is None else existing(student, "init.student")

    def __call__(self, model: nn.Module) -> LoadReport:
        """Fill teacher and model, and log what became of every weight.

        Returns:
            Of the model itself; `missing` keeps its own start.

        Raises:
            CheckpointMismatchError: If a file does not fit.
            ValueError: If the model is of another kind, or a file is damaged.
        """
        if not isinstance(model, HSENetCLIP):
            raise ValueError(
                f"init=second_stage fills an HSENetCLIP, the model is a {type(model).__name__}; "
                "choose another init"
            )
        tensors = read_weights(self.path)
        if model.teacher is not None:
            report = _fill(model.teacher, tensors, self.path)
            _LOG.info("teacher from %s: %s", self.path, report)
        own = tensors if self.student == self.path else read_weights(self.student)
        report = _fill(model, own, self.student)
        kept = f"; kept their own start: {', '.join(report.missing)}" if report.missing else ""
        _LOG.info("model from %s: %d tensors loaded%s", self.student, len(report.loaded), kept)
        return report


def _fill(model: nn.Module, tensors: StateDict, path: Path) -> LoadReport:
    """Load strictly but for the parts for slices; a teacher within is left alone."""
    ours = replace(OUR_NAMES, carried=CLIP.carried)
    table = ours if "raw_scale" in tensors else CLIP
    report = compare(model, tensors, table)[1]
    report.missing = [name for name in report.missing if not name.startswith("teacher.")]
    slices = [name for name in report.missing if name.startswith(_SLICE_PARTS)]
    if report.unexpected or report.mismatched or report.missing != slices:
        raise CheckpointMismatchError(report, name=str(path))
    load_published(model, tensors, table, strict=False)
    return report


def existing(path: str, key: str = "init.path") -> Path:
    """Return a path that is there.

    Raises:
        FileNotFoundError: If it is not.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"no weight file at {path} to start from; give its path, or that of its folder, with "
            f"{key}=FILE, or start at random with init=none"
        )
    return Path(path)
