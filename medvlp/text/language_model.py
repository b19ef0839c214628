"""Any Hugging Face causal language model that continues texts with images between their words."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from medvlp.text.lora import LoRA, low_rank_dropouts
from medvlp.text.pretrained import load_strictly, published_config
from medvlp.text.vocabulary import resize_vocabulary

IGNORED = -100
"""The label of what is not learned."""

Dtype = Literal["float32", "bfloat16", "float16"]


class Ending(NamedTuple):
    """How a generated text ends.

    Attributes:
        max_new_tokens: The longest text.
        stop_ids: Any of these ends it, and is part of it.
        pad_id: Fills what follows.
    """

    max_new_tokens: int
    stop_ids: Sequence[int]
    pad_id: int


class LanguageModel(nn.Module):
    """Predict the next word after embeddings of words and of anything else.

    Args:
        config: Architecture as in a `config.json`, with its `model_type`. Without `pretrained`
            the weights start at random.
        pretrained: Local folder or hub name of weights. With `config` they are loaded into that
            architecture, which serves repositories whose own model class is custom code.
        vocab_size: Rows of the word table: `len(tokenizer)` with its added tokens. None keeps
            those of the architecture.
        num_added_tokens: How many tokens, the last of the vocabulary, start as the mean of all
            others.
        lora: Low-rank layers to train beside the model, which is frozen then.
        freeze: Train nothing.
        dtype: Of the weights; low-rank layers are float32 in any case.
        quantization: "int8" keeps the weights of frozen linear layers in bytes; needs bitsandbytes,
            a GPU and `pretrained`.
        activation_checkpointing: Recompute the layers in the backward pass to save memory.

    Raises:
        ImportError: If what quantisation needs is not installed.
        ValueError: If there is neither config nor pretrained, options contradict each other, or
            the pretrained files are not those of the architecture.

    Reference: HSENet (arXiv 2506.09634), whose language model is Phi-4-mini.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        pretrained: str | None = None,
        vocab_size: int | None = None,
        num_added_tokens: int = 0,
        lora: LoRA | None = None,
        freeze: bool = False,
        dtype: Dtype = "float32",
        quantization: Literal["int8"] | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = _build(config, pretrained, dtype, quantization)
        resize_vocabulary(self.decoder, vocab_size, num_added_tokens)
        if activation_checkpointing:
            self.decoder.activation_checkpointing_enable({"use_reentrant": False})
        self.frozen = freeze or lora is not None
        if self.frozen:
            self.decoder.requires_grad_(False)
        if lora is not None:
            lora.adapt(self.decoder)
            for parameter in self.decoder.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()

    @property
    def width(self) -> int:
        """Channels of an embedding."""
        return self.decoder.config.get_text_config().hidden_size

    @property
    def vocab_size(self) -> int:
        """Rows of the word table."""
        return len(self._words.weight)

    @property
    def context_length(self) -> int | None:
        """The longest sequence of one meaning of the positions; None where there is no end."""
        config = self.decoder.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        # beyond this, some models turn all positions otherwise, those in the cache included
        return getattr(config, "original_max_position_embeddings", None) or longest

    def embed(self, input_ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l e"]:
        """Look words up.

        Raises:
            ValueError: If an id has no row. On a GPU the table itself complains.
        """
        if not input_ids.is_cuda and input_ids.numel() and int(input_ids.max()) >= self.vocab_size:
            raise ValueError(
                f"a token has the id {int(input_ids.max())}, the language model knows "
                f"{self.vocab_size}; set model.language.vocab_size to the length of the tokenizer, "
                "its added tokens (such as the image token) included"
            )
        return self._words(input_ids)

    def forward(
        self,
        embeddings: Float[Tensor, "b l e"],
        attention_mask: Bool[Tensor, "b l"],
        places: Int[Tensor, " p"] | None = None,
    ) -> Float[Tensor, "b q v"]:
        """Return the scores of the next word at all places of a sequence, or at those asked for."""
        asked = {} if places is None else {"logits_to_keep": places}
        # as integers: of a mask of booleans some models make none where all are true
        mask = attention_mask.long()
        return self.decoder(
            inputs_embeds=embeddings, attention_mask=mask, use_cache=False, **asked
        ).logits

    def loss(
        self,
        embeddings: Float[Tensor, "b l e"],
        attention_mask: Bool[Tensor, "b l"],
        labels: Int[Tensor, "b l"],
    ) -> Float[Tensor, ""]:
        """Compute the cross-entropy of the next token, a mean over all tokens to learn.

        Only places that some row learns from are scored: a question and its image are not.

        Raises:
            ValueError: If there is nothing to learn.
        """
        following = labels[:, 1:]
        (places,) = (following != IGNORED).any(0).nonzero(as_tuple=True)
        if not len(places):
            raise ValueError(
                "no conversation of the batch has an answer left to learn from: the questions fill "
                "it; raise the tokenizer's max_length"
            )
        scores = self(embeddings, attention_mask, places)
        wanted = following.index_select(1, places)
        return F.cross_entropy(scores.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED)

    @torch.no_grad()
    def generate(
        self,
        embeddings: Float[Tensor, "b l e"],
        attention_mask: Bool[Tensor, "b l"],
        ending: Ending,
    ) -> Int[Tensor, "b g"]:
        """Continue each row greedily.

        Rows are padded on the left, so that all end together. A row's tokens are the same whatever
        stands beside it.

        Raises:
            ValueError: If prompt and answer do not fit the context.
        """
        length, longest = embeddings.shape[1], self.context_length
        if longest is not None and length + ending.max_new_tokens > longest:
            raise ValueError(
                f"a prompt of {length} tokens and {ending.max_new_tokens} new ones exceed the "
                f"language model's context of {longest}; shorten the question, take fewer image "
                "tokens or lower max_new_tokens"
            )
        rules = GenerationConfig(
            do_sample=False,
            max_new_tokens=ending.max_new_tokens,
            eos_token_id=list(ending.stop_ids),
            pad_token_id=ending.pad_id,
            use_cache=True,
        )
        return self.decoder.generate(
            inputs_embeds=embeddings,
            attention_mask=attention_mask.long(),
            generation_config=rules,
        )

    def train(self, mode: bool = True) -> "LanguageModel":
        """Switch to training; what is frozen stays in evaluation, without dropout."""
        super().train(mode)
        if self.frozen:
            self.decoder.eval()
            for dropout in low_rank_dropouts(self.decoder):
                dropout.train(mode)
            for module in self.decoder.modules():  # layers recompute only in training mode
                if getattr(module, "gradient_checkpointing", False):
                    module.training = mode
        return self

    @property
    def _words(self) -> nn.Embedding:
        return cast(nn.Embedding, self.decoder.get_input_embeddings())


def _build(
    config: Mapping[str, Any] | None,
    pretrained: str | None,
    dtype: Dtype,
    quantization: Literal["int8"] | None,
) -> Any:
    if quantization is not None and pretrained is None:
        raise ValueError("int8 is made of trained weights: give `pretrained`, or no quantization")
    if config is None and pretrained is None:
        raise ValueError(
            "a language model needs `config` (an architecture, random start) or `pretrained` (a "
            "local folder or hub name)"
        )
    parsed = (
        _parsed(config)
        if config is not None
        else published_config(cast(str, pretrained), example="phi3")
    )
    if type(parsed) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"transformers knows no causal language model of model_type {parsed.model_type!r}; "
            "give the `config` of a plain architecture, such as phi3, together with `pretrained`"
        )
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(parsed)]
    precision = getattr(torch, dtype)
    if pretrained is None:
        return model_class(parsed).to(precision)
    options = {} if quantization is None else {"quantization_config": _in_bytes()}
    return load_strictly(
        model_class, pretrained, config=parsed, what="language model", dtype=precision, **options
    )


def _parsed(config: Mapping[str, Any]) -> PreTrainedConfig:
    # no ids of special tokens: a padding row would never learn, though it may also end a text
    options: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    options |= config
    if "model_type" not in options:
        raise ValueError("the config of a language model must name its model_type, such as phi3")
    return AutoConfig.for_model(options.pop("model_type"), **options)


def _in_bytes() -> Any:
    try:
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "int8 weights need bitsandbytes and a GPU; pip install bitsandbytes, or set "
            "model.language.quantization=null (dtype=bfloat16 halves the memory, too)"
        ) from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)
