"""Weights of Hugging Face models: whole, and without running code that came with them."""

import re
from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig


def published_config(pretrained: str, *, example: str) -> PreTrainedConfig:
    """Read the architecture of published weights.

    Args:
        pretrained: Local folder or hub name.
        example: A plain architecture, for the advice of the error.

    Raises:
        ValueError: If the architecture is code that came with the weights.
    """
    options, _ = PreTrainedConfig.get_config_dict(pretrained)
    if "auto_map" in options:  # asked for by name, it would offer to run the code
        raise ValueError(
            f"{pretrained} brings code of its own for model_type {options.get('model_type')!r}, "
            f"which is never run; give the `config` of a plain architecture, such as {example}, "
            "beside `pretrained`"
        )
    return AutoConfig.from_pretrained(pretrained, trust_remote_code=False)


def load_strictly(
    model_class: Any,
    pretrained: str,
    *,
    config: PreTrainedConfig,
    what: str,
    surplus: re.Pattern[str] | None = None,
    **options: Any,
) -> Any:
    """Load weights that must be those of a model, no fewer and no others.

    A head that is tied to the word table may be in the file or not.

    Args:
        model_class: Of the `transformers` library.
        pretrained: Local folder or hub name.
        config: Architecture.
        what: The model in the words of the errors.
        surplus: Names of weights that may be there and are not taken.
        options: Of `from_pretrained`.

    Raises:
        ValueError: If weights are missing, too many or of another shape.
    """
    model, info = model_class.from_pretrained(
        pretrained,
        config=config,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below
        **options,
    )
    others = [
        name for name in info["unexpected_keys"] if surplus is None or not surplus.fullmatch(name)
    ]
    misfits = {**info, "unexpected_keys": others}
    _require_all(misfits, pretrained, f"the {what}", config.model_type)
    return model


def _require_all(misfits: Mapping[str, Any], source: str, what: str, model_type: str) -> None:
    shapes = [
        f"{name}: {list(there)} there, {list(here)} here"
        for name, there, here in misfits["mismatched_keys"]
    ]
    for verdict, names in (
        (f"lacks {{}} weights of {what}", misfits["missing_keys"]),
        (f"has {{}} weights of another shape than {what}", shapes),
        (f"has {{}} weights that {what} has no place for", misfits["unexpected_keys"]),
    ):
        if names:
            raise ValueError(
                f"{source} {verdict.format(len(names))}, for instance "
                f"{', '.join(sorted(names)[:3])}; give weights of this {model_type} model, its "
                "own `config`, or no weights to start at random"
            )
