"""Low-rank adaptation (LoRA) of a text encoder or a language model."""

from collections.abc import Sequence

from torch import nn


class LoRA:
    """Put trainable low-rank layers beside frozen linear layers of an encoder, by PEFT.

    The encoder keeps its class and its names; an adapted layer `query` becomes `query.base_layer`,
    `query.lora_A.default` and `query.lora_B.default`.

    Args:
        rank: Of the low-rank product.
        alpha: The product is scaled by `alpha / rank`.
        dropout: Of the input of the low-rank layers.
        targets: Names of the linear layers that are adapted; None for all but the output head of a
            language model.

    Raises:
        ValueError: If the rank is not positive.

    Reference: Hu et al., LoRA (ICLR 2022); HLIP's option for the text tower, HSENet's for the
    language model.
    """

    def __init__(
        self,
        rank: int,
        *,
        alpha: int,
        dropout: float = 0.0,
        targets: Sequence[str] | None = ("query", "value"),
    ) -> None:
        if rank < 1:
            raise ValueError(f"LoRA needs a positive rank, {rank} came; leave `lora` out for none")
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = None if targets is None else tuple(targets)

    def adapt(self, encoder: nn.Module) -> None:
        """Adapt an encoder in place; all else in it is frozen.

        Raises:
            ImportError: If PEFT is not installed.
            ValueError: If a target names no linear layer.
        """
        targets = _all_linear(encoder) if self.targets is None else self.targets
        linear = [f".{name}" for name in _linear_names(encoder)]
        unknown = [t for t in targets if not any(name.endswith(f".{t}") for name in linear)]
        if unknown or not targets:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(
                f"LoRA targets {list(targets)} must name linear layers of the encoder; it has "
                f"{', '.join(known)}"
            )
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError("LoRA needs PEFT; pip install 'medvlp[llm]'") from error
        options = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(targets),
            bias="none",
        )
        inject_adapter_in_model(options, encoder)


def _linear_names(encoder: nn.Module) -> list[str]:
    return [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]


def _all_linear(encoder: nn.Module) -> list[str]:
    """List all linear layers by their full names, without the head that predicts words."""
    head = getattr(encoder, "get_output_embeddings", lambda: None)()
    return [name for name in _linear_names(encoder) if encoder.get_submodule(name) is not head]


def merge_low_rank(model: nn.Module) -> None:
    """Add the low-rank products to the weights beside them, and leave the layers out.

    Sums are rounded to the type of these weights, so that outputs change by as much.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
    vars(model).pop("peft_config", None)


def low_rank_dropouts(encoder: nn.Module) -> list[nn.Module]:
    """List the dropouts of the low-rank layers: they stay active in a frozen encoder."""
    return [
        module
        for name, module in encoder.named_modules()
        if name.rpartition(".")[2] == "lora_dropout"
    ]
