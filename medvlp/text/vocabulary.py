"""The word tables of a language model whose tokenizer has been given further tokens."""

from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel


@torch.no_grad()
def resize_vocabulary(decoder: PreTrainedModel, size: int | None, num_added: int) -> None:
    """Cut or extend the word tables, then start their last rows as the mean of all others.

    Args:
        decoder: Changed in place; its tables of input and output may be one.
        size: Rows; None keeps their number.
        num_added: How many of the last rows are new.

    Raises:
        ValueError: If there would be no other rows.

    Reference: the published repository (github.com/YanzhaoShi/HSENet), where the tokens of images,
    boxes and segmentations are added.
    """
    words = cast(nn.Embedding, decoder.get_input_embeddings())
    size = len(words.weight) if size is None else size
    if not 0 <= num_added < size:
        raise ValueError(
            f"{num_added} added tokens do not fit a vocabulary of {size}; vocab_size counts all "
            "tokens, the added ones included"
        )
    if size != len(words.weight):
        decoder.resize_token_embeddings(size, mean_resizing=False)
    if not num_added:
        return
    for table in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
        if table is not None:
            weight = cast(nn.Embedding, table).weight
            weight[-num_added:] = weight[:-num_added].float().mean(0).to(weight.dtype)
