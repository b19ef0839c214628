"""Objects of conf/ as Hydra builds them, and as LightningCLI's parser does."""

from typing import Any

from hydra.utils import instantiate
from jsonargparse import ArgumentParser

from medvlp import config


def built_by_both(tree: Any, kind: type | None = None) -> tuple[Any, Any]:
    """Build a resolved tree both ways; for the parser any subclass of a kind will do."""
    hydra = instantiate(tree, _convert_="all")
    parser = ArgumentParser()
    parser.add_subclass_arguments(kind or type(hydra), "built")
    parsed = parser.parse_object({"built": config.to_class_path(tree)})
    return hydra, parser.instantiate(parsed).built
