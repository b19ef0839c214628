"""Low-rank adaptation (LoRA) of a text encoder."""

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
        targets: Names of the linear layers that are adapted.

    Raises:
        ValueError: If the rank is not positive.

    Reference: Hu et al., LoRA (ICLR 2022); HLIP's option for the text tower.
    """

    def __init__(
        self,
        rank: int,
        *,
        alpha: int,
        dropout: float = 0.0,
        targets: Sequence[str] = ("query", "value"),
    ) -> None:
        if rank < 1:
            raise ValueError(f"LoRA needs a positive rank, {rank} came; leave `lora` out for none")
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = tuple(targets)

    def adapt(self, encoder: nn.Module) -> None:
        """Adapt an encoder in place; all else in it is frozen.

        Raises:
            ImportError: If PEFT is not installed.
            ValueError: If a target names no linear layer.
        """
        names = {
            name.rpartition(".")[2]
            for name, module in encoder.named_modules()
            if isinstance(module, nn.Linear)
        }
        unknown = [target for target in self.targets if target not in names]
        if unknown or not self.targets:
            raise ValueError(
                f"LoRA targets {list(self.targets)} must name linear layers of the encoder; it has "
                f"{', '.join(sorted(names))}"
            )
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError(
                "LoRA on the text tower needs PEFT; pip install 'medvlp[llm]'"
            ) from error
        options = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.targets),
            bias="none",
        )
        inject_adapter_in_model(options, encoder)


def low_rank_dropouts(encoder: nn.Module) -> list[nn.Module]:
    """List the dropouts of the low-rank layers: they stay active in a frozen encoder."""
    return [
        module
        for name, module in encoder.named_modules()
        if name.rpartition(".")[2] == "lora_dropout"
    ]
