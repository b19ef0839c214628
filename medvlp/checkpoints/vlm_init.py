"""Where HSENet's language model that sees starts from: the towers of the stages before it."""

import logging
from pathlib import Path
from typing import NamedTuple

from torch import nn

from medvlp.checkpoints.adapter import (
    CheckpointMismatchError,
    LoadReport,
    RuleTable,
    StateDict,
    load_published,
    nested,
)
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.hsenet_rules import (
    TEACHER_PREFIX,
    TOWER_PREFIXES,
    VISION_PREFIX,
    VISION_RULES,
    unwrapped,
)
from medvlp.checkpoints.published_systems import OUR_NAMES
from medvlp.models.hsenet_vlm import HSENetVLM

_LOG = logging.getLogger(__name__)


class _Layout(NamedTuple):
    """Prefixes of both towers in a file, and the names behind them."""

    plain: str
    guided: str
    table: RuleTable


_PUBLISHED = RuleTable(
    (*nested(VISION_RULES, "vision.", "vision."), *nested(VISION_RULES, *["guided_vision."] * 2))
)
_LAYOUTS = (
    _Layout("vision.", "guided_vision.", OUR_NAMES),
    _Layout("teacher.vision.", "vision.", OUR_NAMES),
    _Layout(TEACHER_PREFIX + VISION_PREFIX, VISION_PREFIX, _PUBLISHED),
    _Layout(*TOWER_PREFIXES, _PUBLISHED),
)


class TowersInit:
    """Start both image towers from a checkpoint of the second stage, with its teacher inside.

    The teacher's tower becomes the plain one, the second stage's own the guided one; packers and
    language model keep their start.

    Args:
        path: Checkpoint of the second stage, of ours or as published (file or folder), or the
            published file of both towers.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    in_evaluation = False

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(
                f"no weight file at {path} to take the towers from; give a checkpoint of HSENet's "
                "second stage with init.path=FILE, or start at random with init=none"
            )

    def __call__(self, model: nn.Module) -> LoadReport:
        """Fill `model.vision` and `model.guided_vision`, strictly, and log what was loaded.

        Raises:
            CheckpointMismatchError: If anything is missing, unexpected or misshapen.
            ValueError: If the file lacks one of the towers, or the model has not both.
        """
        if not isinstance(model, HSENetVLM):
            raise ValueError(
                f"init=towers fills both towers of an HSENetVLM, a {type(model).__name__} came; "
                "choose init=none, or a model such as hsenet_phi4"
            )
        tensors = {unwrapped(n): tensor for n, tensor in open_weights(self.path).tensors.items()}
        layout = self._layout_of(tensors)
        towers = nn.ModuleDict({"vision": model.vision, "guided_vision": model.guided_vision})
        part = {
            name + rest: tensor
            for name, prefix in (("vision.", layout.plain), ("guided_vision.", layout.guided))
            for rest, tensor in _below(prefix, tensors).items()
        }
        try:
            report = load_published(towers, part, layout.table)
        except CheckpointMismatchError as error:
            raise CheckpointMismatchError(error.report, name=str(self.path)) from None
        _LOG.info("both image towers from %s: %s", self.path, report)
        return report

    def _layout_of(self, tensors: StateDict) -> _Layout:
        for layout in _LAYOUTS:
            plain, guided = _below(layout.plain, tensors), _below(layout.guided, tensors)
            if plain and guided:
                return layout
            if guided:
                raise ValueError(
                    f"{self.path} has no teacher ({layout.plain}*), from which the plain tower "
                    "starts; it is of the first stage or was saved without its teacher: give a "
                    "checkpoint that training of the second stage wrote"
                )
        raise ValueError(
            f"{self.path} has no image towers under known names ({', '.join(sorted(tensors)[:3])}, "
            "...); give a checkpoint of HSENet's second stage"
        )


def _below(prefix: str, tensors: StateDict) -> StateDict:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
