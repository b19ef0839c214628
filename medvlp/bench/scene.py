"""The experiment that data and step benchmarks run on, in a folder of its own."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medvlp import config


@contextmanager
def scene(experiment: str, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Resolve an experiment whose data and outputs lie in a temporary folder unless overridden."""
    with tempfile.TemporaryDirectory(prefix="medvlp_bench_") as folder:
        paths = [f"paths.data={Path(folder) / 'data'}", f"paths.outputs={Path(folder) / 'runs'}"]
        tree = config.resolve(config.compose([f"experiment={experiment}", *paths, *overrides]))
        config.check_keys(tree)
        yield tree
