"""Warnings of Lightning about Lightning: nothing a user could act on."""

import logging
import os
import warnings


def hush() -> None:
    """Silence its use of deprecated interfaces, misleading advice, and its advertisement."""
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.WARNING)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in (
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
        r".*`\.fit\(ckpt_path=None\)` was called without a model",  # said of every first fit
        r'.*\.fit\(ckpt_path="last"\) is set, but there is no last',  # nobody asked for it
        r".*The dirpath has changed from",  # an evaluation writes no checkpoints
        r".*Found \d+ module\(s\) in eval mode",  # frozen towers and teachers are meant to be
        r".*Couldn't infer the batch indices",  # predictions carry their own ids
        "LightningCLI's args parameter",  # children repeat the command line, so it stays as it is
    ):
        warnings.filterwarnings("ignore", message=message)
