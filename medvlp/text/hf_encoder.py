"""Any Hugging Face encoder as a text tower."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from medvlp.text.freeze import Freeze, free_layer_norms, freeze_encoder
from medvlp.text.lora import LoRA, low_rank_dropouts
from medvlp.text.pretrained import load_strictly, published_config
from medvlp.types import Tokens

# Weights that published files of encoders carry beside the encoder: heads of their pre-training
# (`cls_projection_head` is CXR-BERT's), poolers, and a buffer of old versions of transformers.
_HEADS = re.compile(
    r"(\w+\.)?(cls|cls_projection_head|pooler|lm_head|vocab_\w+)\..*|.*embeddings\.position_ids"
)


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


def max_pooling(
    hidden: Float[Tensor, "t l c"], attention_mask: Bool[Tensor, "t l"]
) -> Float[Tensor, "t c"]:
    """Take the largest number of each channel over the real tokens."""
    return hidden.masked_fill(~attention_mask[:, :, None], -torch.inf).amax(1)


_POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": cls_pooling,
    "mean": mean_pooling,
    "max": max_pooling,
}


class HFEncoder(nn.Module):
    """Encode texts with a transformer of the `transformers` library, without its pooler.

    Args:
        config: Architecture as in a `config.json`, with its `model_type`. Without `pretrained`
            the weights start at random.
        pretrained: Local folder or hub name of weights. With `config` they are loaded into that
            architecture, which serves repositories whose own model class is custom code.
        pooling: "cls" for the first token, "mean" or "max" over the real tokens.
        freeze: "all_but_layer_norm" trains the weights and biases of the LayerNorms alone;
            "all" trains nothing.
        unlocked_layers: Of a frozen encoder train the last of [embeddings, layers...], so many.
        lora: Low-rank layers to train beside a frozen encoder.
        dropout_when_frozen: Keep dropout active in what is frozen while the model trains, as
            the published HLIP code does. Off, a frozen encoder is deterministic.
        activation_checkpointing: Recompute the layers in the backward pass to save memory.
        length_groups: Sort the texts of a call by length into so many runs of equal numbers and
            cut each to its longest: the same features, and one long text no longer makes all
            others as long. Waits for the device once a call where it is above 1.
        token_types: Add the embedding of the first token type, as BERT does. fVLM's code does
            not, and its model has no such table.
        mask_padding: False takes padding for real tokens, as the published code of HCL-AL does:
            features then depend on how far texts are padded.

    Raises:
        ValueError: If there is neither config nor pretrained, options are unknown or contradict
            each other, or the pretrained files are not those of the encoder.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        pretrained: str | None = None,
        pooling: str = "cls",
        freeze: Freeze = "none",
        unlocked_layers: int = 0,
        lora: LoRA | None = None,
        dropout_when_frozen: bool = False,
        activation_checkpointing: bool = False,
        length_groups: int = 1,
        token_types: bool = True,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        if length_groups < 1:
            raise ValueError(f"length_groups is {length_groups}, expected 1 (all at once) or more")
        self.length_groups = length_groups
        self.mask_padding = mask_padding
        for option, value, known in (
            ("pooling", pooling, tuple(_POOLINGS)),
            ("freeze", freeze, get_args(Freeze)),
        ):
            if value not in known:
                raise ValueError(f"{option} {value!r} is unknown; choose {', '.join(known)}")
        self.encoder = _build(config, pretrained)
        self.starts_at_random = pretrained is None
        if not token_types:
            _drop_token_types(self.encoder)
        self.width: int = self.encoder.config.hidden_size
        self.pooling = _POOLINGS[pooling]
        if activation_checkpointing:
            _enable_checkpointing(self.encoder)
        frozen = freeze_encoder(self.encoder, freeze, unlocked_layers)
        if lora is not None:
            _adapt(self.encoder, lora, freeze, unlocked_layers)
        self._deterministic_parts = [] if dropout_when_frozen else frozen

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
        if not self.mask_padding:
            tokens = Tokens(tokens.input_ids, torch.ones_like(tokens.attention_mask))
        count = min(self.length_groups, len(tokens.input_ids))
        return self._features(tokens) if count == 1 else self._grouped(tokens, count)

    def _features(self, tokens: Tokens) -> Tensor:
        hidden = self.encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state
        return self.pooling(hidden, tokens.attention_mask)

    def _grouped(self, tokens: Tokens, count: int) -> Tensor:
        # where the last real token stands: a masked one may stand before it
        places = torch.arange(1, tokens.attention_mask.shape[1] + 1, device=tokens.input_ids.device)
        lengths, order = (tokens.attention_mask * places).amax(1).sort()
        longest = [int(run[-1]) for run in lengths.cpu().tensor_split(count)]
        features = [
            self._features(Tokens(*(part[rows, :length] for part in tokens)))
            for length, rows in zip(longest, order.tensor_split(count), strict=True)
        ]
        return torch.cat(features)[order.argsort()]

    def train(self, mode: bool = True) -> "HFEncoder":
        """Switch to training; what is frozen, without dropout, stays in evaluation."""
        super().train(mode)
        for part in self._deterministic_parts:
            part.eval()
            for dropout in low_rank_dropouts(part):
                dropout.train(mode)
        return self


def _build(config: Mapping[str, Any] | None, pretrained: str | None) -> Any:
    if config is not None:
        options = dict(config)
        parsed = AutoConfig.for_model(options.pop("model_type", "bert"), **options)
        if pretrained is not None:
            return _load(parsed, pretrained)
        return _model_class(parsed)(parsed, **_without_pooler(parsed))
    if pretrained is not None:
        return _load(published_config(pretrained, example="bert"), pretrained)
    raise ValueError(
        "a text encoder needs `config` (an architecture, random start) or `pretrained` (a local "
        "folder or hub name)"
    )


def _load(config: PreTrainedConfig, pretrained: str) -> nn.Module:
    """Load strictly but for the heads that encoders were pre-trained with."""
    return load_strictly(
        _model_class(config),
        pretrained,
        config=config,
        what="text encoder",
        surplus=_HEADS,
        dtype=torch.float32,
        **_without_pooler(config),
    )


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


class _NoTokenTypes(nn.Module):
    """Takes the place of a table of token types, and adds nothing."""

    def forward(self, token_type_ids: Int[Tensor, "t l"]) -> Float[Tensor, ""]:
        return torch.zeros((), device=token_type_ids.device)  # of no axis: keeps half precision


def _drop_token_types(encoder: Any) -> None:
    embeddings: Any = getattr(encoder, "embeddings", None)
    if getattr(embeddings, "token_type_embeddings", None) is None:
        raise ValueError(
            f"a {encoder.config.model_type} text encoder adds no token types; leave "
            "token_types=true, which changes nothing for it"
        )
    embeddings.token_type_embeddings = _NoTokenTypes()


def _enable_checkpointing(encoder: Any) -> None:
    # The method was renamed within transformers 5.
    current = getattr(encoder, "activation_checkpointing_enable", None)
    (current or encoder.gradient_checkpointing_enable)({"use_reentrant": False})


def _adapt(encoder: nn.Module, lora: LoRA, freeze: Freeze, unlocked_layers: int) -> None:
    if freeze == "none" or unlocked_layers:
        raise ValueError(
            "LoRA trains beside a frozen text encoder: set freeze to all_but_layer_norm (as "
            "published) or all, and unlocked_layers to 0"
        )
    lora.adapt(encoder)
    if freeze == "all_but_layer_norm":
        free_layer_norms(encoder)
