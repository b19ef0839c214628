"""How many texts did not fit the tokenizer's context."""

import logging
from collections.abc import Mapping
from typing import Any

_LOG = logging.getLogger(__name__)


class CutTexts:
    """Counts over all loader workers, for one warning per run instead of one per batch."""

    def __init__(self) -> None:
        self.num_texts = self.num_cut = 0

    def count(self, batch: Mapping[str, Any]) -> None:
        """Add a batch; the first one with a cut text is told of."""
        cut, num_texts = (
            batch.get("num_truncated", 0),
            len(batch.get("text_kind", batch.get("question", ()))),
        )
        if cut and not self.num_cut:
            _LOG.info(
                "%d of %d texts of a batch are longer than the tokenizer's context and are cut; "
                "the end of the run tells how many in all",
                cut,
                num_texts,
            )
        self.num_texts += num_texts
        self.num_cut += cut

    def report(self, run: str) -> None:
        """Warn of what was cut in a run, and begin again at zero."""
        if self.num_cut:
            _LOG.warning(
                "%s: %d of %d texts were longer than the tokenizer's context and were cut; "
                "raise tokenizer.context_length (max_length of conversations) to keep more",
                run,
                self.num_cut,
                self.num_texts,
            )
        self.num_texts = self.num_cut = 0
