"""Warnings of Lightning about Lightning: nothing a user could act on."""

import os
import warnings


def hush() -> None:
    """Silence Lightning's use of deprecated interfaces and two misleading pieces of advice."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in (
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated",
        r".*`\.fit\(ckpt_path=None\)` was called without a model",  # said of every first fit
        r'.*\.fit\(ckpt_path="last"\) is set, but there is no last',  # nobody asked for it
        "LightningCLI's args parameter",  # children repeat the command line, so it stays as it is
    ):
        warnings.filterwarnings("ignore", message=message)
