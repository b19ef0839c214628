"""Tell of a text tower that is frozen as it started, at random."""

import logging

from torch import Tensor, nn

_LOG = logging.getLogger(__name__)


class FrozenStart:
    """Remember a frozen weight of a text tower that starts at random, to see whether it is filled.

    Args:
        model: Before anything filled it; its tower `text` says whether it `starts_at_random`.
    """

    def __init__(self, model: nn.Module) -> None:
        text = getattr(model, "text", None)
        self._weight: Tensor | None = None
        if isinstance(text, nn.Module) and getattr(text, "starts_at_random", False):
            frozen = [
                part for part in text.parameters() if part.ndim > 1 and not part.requires_grad
            ]
            self._weight = frozen[-1] if frozen else None
        self._start = None if self._weight is None else self._weight.detach().clone()

    def warn(self) -> None:
        """Warn if nothing has filled it since."""
        if self._weight is None or self._start is None or not self._weight.equal(self._start):
            return
        _LOG.warning(
            "the text tower is frozen as it started, at random: nothing can be learned from what "
            "it makes of texts. Fill it: init=text_tower init.path=FILE (HCL-AL: CLIP ViT-B/32), "
            "or train it: model.text.freeze=none"
        )
