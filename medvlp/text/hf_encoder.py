"""Any Hugging Face encoder as a text tower."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from medvlp.types import Tokens

Freeze = Literal["none", "all_but_layer_norm", "all"]


def cls_pooling(
    hidden: Float[Tensor, "t l c"], attention_mask: Bool[Tensor, "t l"]
) -> Float[Tensor, "t c"]:
    """Take the hidden state of the first token."""
    return hidden[:, 0]


def mean_pooling(
    hidden: Float[Tensor, "t l c"], attention_mask: Bool[Tensor, "t l"]
) -> Float[Tensor, "t c"]:
    """Average the hidden states of the real tokens."""
    kept = attention_mask[:, :, None].to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1)


_POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": cls_pooling,
    "mean": mean_pooling,
}


class HFEncoder(nn.Module):
    """Encode texts with a transformer of the `transformers` library, without its pooler.

    Args:
        config: Architecture as in a `config.json`, with its `model_type`. Without `pretrained`
            the weights start at random.
        pretrained: Local folder or hub name of weights. With `config` they are loaded into that
            architecture, which serves repositories whose own model class is custom code.
        pooling: "cls" for the first token, "mean" over the real tokens.
        freeze: "all_but_layer_norm" trains the weights and biases of the LayerNorms alone;
            "all" trains nothing.
        dropout_when_frozen: Keep dropout active in a frozen encoder while the model trains, as
            the published HLIP code does. Off, a frozen encoder is deterministic.
        activation_checkpointing: Recompute the layers in the backward pass to save memory.

    Raises:
        ValueError: If there is neither config nor pretrained, an option is unknown, or the
            pretrained files lack weights of the encoder.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        pretrained: str | None = None,
        pooling: str = "cls",
        freeze: Freeze = "none",
        dropout_when_frozen: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        for option, value, known in (
            ("pooling", pooling, tuple(_POOLINGS)),
            ("freeze", freeze, get_args(Freeze)),
        ):
            if value not in known:
                raise ValueError(f"{option} {value!r} is unknown; choose {', '.join(known)}")
        self.encoder = _build(config, pretrained)
        self.width: int = self.encoder.config.hidden_size
        self.pooling = _POOLINGS[pooling]
        self.deterministic = freeze != "none" and not dropout_when_frozen
        if activation_checkpointing:
            _enable_checkpointing(self.encoder)
        _freeze(self.encoder, freeze)

    def forward(self, tokens: Tokens) -> Float[Tensor, "t c"]:
        """Return the features of each text, before projection.

        Raises:
            ValueError: If a text is longer than the encoder's table of positions.
        """
        longest = getattr(self.encoder.config, "max_position_embeddings", None)
        if longest is not None and tokens.input_ids.shape[1] > longest:
            raise ValueError(
                f"texts of {tokens.input_ids.shape[1]} tokens came, the text encoder has "
                f"{longest} positions; lower tokenizer.context_length"
            )
        hidden = self.encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state
        return self.pooling(hidden, tokens.attention_mask)

    def train(self, mode: bool = True) -> "HFEncoder":
        """Switch to training; a frozen encoder without dropout stays in evaluation."""
        super().train(mode)
        if self.deterministic:
            self.encoder.eval()
        return self


def _build(config: Mapping[str, Any] | None, pretrained: str | None) -> Any:
    if config is not None:
        options = dict(config)
        parsed = AutoConfig.for_model(options.pop("model_type", "bert"), **options)
        if pretrained is not None:
            return _load(parsed, pretrained)
        return _model_class(parsed)(parsed, **_without_pooler(parsed))
    if pretrained is not None:
        return _load(AutoConfig.from_pretrained(pretrained), pretrained)
    raise ValueError(
        "a text encoder needs `config` (an architecture, random start) or `pretrained` (a local "
        "folder or hub name)"
    )


def _load(config: PreTrainedConfig, pretrained: str) -> nn.Module:
    model, info = _model_class(config).from_pretrained(
        pretrained,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        **_without_pooler(config),
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"{pretrained} lacks {len(missing)} weights of the text encoder, for instance "
            f"{', '.join(missing[:3])}; give weights of a {config.model_type} encoder, or none to "
            "start at random"
        )
    return model


def _model_class(config: PreTrainedConfig) -> Any:
    if type(config) not in MODEL_MAPPING:
        raise ValueError(
            f"transformers knows no encoder for model_type {config.model_type!r}; give the "
            "`config` of a plain architecture, such as bert, together with `pretrained`"
        )
    return MODEL_MAPPING[type(config)]


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    accepted = inspect.signature(_model_class(config).__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _enable_checkpointing(encoder: Any) -> None:
    # The method was renamed within transformers 5.
    current = getattr(encoder, "activation_checkpointing_enable", None)
    (current or encoder.gradient_checkpointing_enable)({"use_reentrant": False})


def _freeze(encoder: nn.Module, freeze: Freeze) -> None:
    if freeze == "none":
        return
    for name, parameter in encoder.named_parameters():
        is_norm = "LayerNorm" in name.split(".")
        parameter.requires_grad_(freeze == "all_but_layer_norm" and is_norm)
