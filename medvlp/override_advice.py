"""Advice on command-line overrides that do not compose: what was meant, most likely."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf


def first_value(override: str) -> str:
    """Turn a sweep `key=a,b` into `key=a`, and leave everything else as it is."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return override
    if not parsed.is_sweep_override():
        return override
    value = parsed.value()
    if isinstance(value, Sweep):
        first = next(iter(parsed.sweep_string_iterator()))
        return f"{override.split('=', 1)[0]}={first}"
    return override


def explain(
    error: HydraException, overrides: Iterable[str], *, conf: Path, config_name: str
) -> str:
    """Say what was wrong with the overrides, and which valid name is nearest.

    Call it while Hydra is initialised with the folder `conf`.
    """
    message = str(error).split("\nSet the environment variable")[0].strip()
    parser = OverridesParser.create()
    groups: list[str] = []
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            return f"{text!r} is not an override; write key=value"
        if (conf / parsed[-1].key_or_group).is_dir():
            groups.append(first_value(text))
    # groups first: which keys there are depends on them
    parsed.sort(key=lambda override: not (conf / override.key_or_group).is_dir())
    hints = (_hint(override, groups, conf, config_name) for override in parsed)
    return next((hint for hint in hints if hint), message)


def _hint(override: Override, groups: Sequence[str], conf: Path, config_name: str) -> str | None:
    """Find the nearest valid name for one override, or None if the override is fine."""
    key = override.key_or_group
    group = conf / key
    if group.is_dir():
        options = sorted(
            str(file.relative_to(group).with_suffix("")) for file in group.rglob("*.yaml")
        )
        value = str(override.value())
        if value in options or override.is_sweep_override():
            return None
        return f"{key}={value}: there is no conf/{key}/{value}.yaml" + nearest(value, options)
    if override.is_add():
        return None
    try:
        keys = all_keys(compose(config_name, overrides=list(groups)))
    except HydraException:
        return None
    if key in keys:
        return None
    parent = key.rpartition(".")[0]
    siblings = [name for name in keys if parent and name.rpartition(".")[0] == parent]
    groups = [str(folder.relative_to(conf)) for folder in conf.rglob("*") if folder.is_dir()]
    advice = nearest(key, siblings or [*keys, *groups])
    return f"there is no key {key!r} in the configuration{advice}"


def all_keys(node: Any, path: str = "") -> list[str]:
    """List the dotted keys of a tree, inner nodes included."""
    keys = []
    if isinstance(node, DictConfig):
        for name in node:
            inner = f"{path}.{name}" if path else str(name)
            keys.append(inner)
            if not OmegaConf.is_missing(node, name) and OmegaConf.is_dict(node._get_node(name)):
                keys += all_keys(node._get_node(name), inner)
    return keys


def nearest(name: str, options: Sequence[str]) -> str:
    """Phrase the nearest valid names as advice."""
    options = list(dict.fromkeys(options))
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    listed = ", ".join(options[:12])
    return f"; valid names: {listed}{' ...' if len(options) > 12 else ''}"
