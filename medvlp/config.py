"""The configuration interface: composing, checking and rewriting the Hydra tree.

A run is one resolved tree. `train` hands it to Hydra's `instantiate`; `evaluate` rewrites the same
tree for LightningCLI. This module is free of torch, so that `--help` and composition stay fast.
"""

import importlib
import inspect
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from medvlp import slurm
from medvlp.override_advice import all_keys, explain, first_value, nearest

_HYDRA_KEYS = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}


class ConfigError(ValueError):
    """A configuration that cannot be run, with the nearest valid name in its message."""


def config_dir() -> Path:
    """Return the folder of the YAML files: `conf/` of a checkout, `medvlp/conf` of a wheel.

    Raises:
        FileNotFoundError: If neither is there.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise FileNotFoundError(
        f"no conf/train.yaml beside or inside {package}: the installation is incomplete, "
        "install medvlp again"
    )


def register_resolvers() -> None:
    """Register the interpolations that the YAML files use.

    `${token_grid:img_size,patch_size}` is the grid of whole patches of a volume, per axis;
    `${run_stamp:${now:FORMAT}}` names a run by the clock, or by its Slurm job.
    """
    OmegaConf.register_new_resolver("token_grid", token_grid, replace=True)
    OmegaConf.register_new_resolver("run_stamp", slurm.run_stamp, replace=True)


def token_grid(size: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Count the whole patches along each axis.

    >>> token_grid([112, 336, 336], [8, 24, 24])
    [14, 14, 14]
    """
    return [length // step for length, step in zip(size, patch, strict=True)]


def compose(overrides: Sequence[str] = (), config_name: str = "train") -> DictConfig:
    """Compose the tree of a run from `conf/` and command-line overrides.

    Raises:
        ConfigError: If an override names a key, group or option that does not exist; the message
            carries the nearest valid name.
    """
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        try:
            return hydra_compose(config_name, overrides=list(overrides))
        except HydraException as error:
            raise ConfigError(
                explain(error, overrides, conf=config_dir(), config_name=config_name)
            ) from None


def check_command_line(arguments: Sequence[str], config_name: str) -> None:
    """Stop with one line, before any work, if overrides do not compose or output cannot be written.

    Sweeps are checked with their first value. Help and a user's own configuration folder are
    left to Hydra.
    """
    if any(
        argument.startswith("-") and argument not in ("-m", "--multirun", "--run")
        for argument in arguments
    ):
        return
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        cfg = compose([first_value(override) for override in overrides], config_name)
        require_writable(Path(cfg.paths.outputs))
    except ConfigError as error:
        sys.exit(f"medvlp: {error}")


def require_writable(
    folder: Path, option: str = "paths.outputs=FOLDER or the variable MEDVLP_OUTPUTS"
) -> None:
    """Check that a folder can be written to, or made.

    Args:
        folder: For outputs.
        option: What chooses another one.

    Raises:
        ConfigError: Naming what stands in the way.
    """
    there = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    try:
        with tempfile.TemporaryFile(dir=there):  # tried, because permissions do not tell all
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to {there} ({error.strerror}); choose another folder with {option}"
        ) from error


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Resolve all interpolations into plain dicts and lists.

    Raises:
        ConfigError: If a mandatory value (`???`) is missing.
    """
    missing = sorted(_missing(plain(cfg)))
    if missing:
        start = "; init.path is the file to start from: of a later stage, the one before it left it"
        raise ConfigError(
            f"mandatory values are missing: {', '.join(missing)}; give them on the command line, "
            f"for example {missing[0]}=VALUE{start if 'init.path' in missing else ''}"
        )
    return plain(cfg, interpolate=True)


def _missing(tree: Any, path: str = "") -> Iterator[str]:
    """List mandatory values without following interpolations, which may end in them."""
    if tree == "???":
        yield path
    branches = dict(enumerate(tree)) if isinstance(tree, list) else tree
    if not isinstance(branches, dict):
        return
    for key, value in branches.items():
        yield from _missing(value, f"{path}.{key}" if path else str(key))


def plain(cfg: DictConfig, *, interpolate: bool = False) -> dict[str, Any]:
    """Turn a tree into plain dicts and lists, with its interpolations as text or as values."""
    tree = OmegaConf.to_container(cfg, resolve=interpolate)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def override_tree(tree: Mapping[str, Any], overrides: Sequence[str]) -> DictConfig:
    """Apply overrides to an unresolved tree that was composed earlier.

    `group=option` replaces a whole node by an option of `conf/`, and what else the option's file
    sets (data their `paths.raw`, a model its tokenizer); then `key=value` changes values.

    Raises:
        ConfigError: If a key does not exist in the tree.
    """
    register_resolvers()
    cfg = OmegaConf.create(dict(tree))
    groups = [text for text in overrides if (config_dir() / text.split("=")[0]).is_dir()]
    composed = plain(compose(groups)) if groups else {}
    for text in groups:
        for key in _keys_set_by(*text.split("=", 1)):
            node = reduce(lambda tree, name: tree[name], key.split("."), composed)
            OmegaConf.update(cfg, key, node, merge=False)
    for text in overrides:
        if text in groups:
            continue
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise ConfigError(f"{text!r} is not an override; write key=value") from error
        key, known = override.key_or_group, all_keys(cfg)
        if key not in known and not override.is_add():
            raise ConfigError(f"there is no key {key!r} in this tree" + nearest(key, known))
        OmegaConf.update(cfg, key, override.value(), merge=False, force_add=override.is_add())
    return cfg


def _keys_set_by(group: str, option: str) -> list[str]:
    """List the nodes of the tree that an option decides: its own, and what else its file sets."""
    own = group.replace("/", ".")
    file = config_dir() / group / f"{option}.yaml"
    if not file.is_file() or "@package _global_" not in file.read_text(encoding="utf-8"):
        return [own]
    content = OmegaConf.load(file)
    assert isinstance(content, DictConfig)
    others = [str(key) for key in content if key not in ("defaults", "paths", own)]
    # other data lie elsewhere: what a file does not say is asked for again
    return [own, *others, *(["paths.raw"] if own == "data" else [])]


def check_keys(tree: Any, path: str = "") -> None:
    """Check that every key under a `_target_` is a parameter of what it names.

    Raises:
        ConfigError: Naming the key, its place in the tree and the nearest parameter.
    """
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            check_keys(item, f"{path}[{index}]")
    if not isinstance(tree, dict):
        return
    if "_target_" in tree:
        parameters = _parameters(locate(tree["_target_"]))
        for key in tree.keys() - _HYDRA_KEYS:
            if parameters is not None and key not in parameters:
                raise ConfigError(
                    f"{path}.{key} is not a parameter of {tree['_target_']}"
                    + nearest(key, parameters)
                )
    for key, value in tree.items():
        check_keys(value, f"{path}.{key}" if path else str(key))


def to_class_path(tree: Any) -> Any:
    """Rewrite `_target_` trees to the `class_path`/`init_args` form of LightningCLI.

    >>> to_class_path({"_target_": "torch.nn.Linear", "in_features": 2})
    {'class_path': 'torch.nn.Linear', 'init_args': {'in_features': 2}}
    """
    if isinstance(tree, list):
        return [to_class_path(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    arguments = {key: to_class_path(value) for key, value in tree.items() if key not in _HYDRA_KEYS}
    if "_target_" not in tree:
        return arguments
    if tree.get("_args_"):
        raise ConfigError(f"{tree['_target_']}: _args_ cannot be rewritten, use named arguments")
    return {"class_path": tree["_target_"], "init_args": arguments}


def locate(target: str) -> Any:
    """Import the object that a dotted `_target_` names.

    Raises:
        ConfigError: If the module or the attribute is not there.
    """
    module_name, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_ {target} cannot be imported: {error}") from error


def _parameters(target: Any) -> list[str] | None:
    """List the parameter names of a callable; None if it takes any keyword."""
    parameters = inspect.signature(target).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]
