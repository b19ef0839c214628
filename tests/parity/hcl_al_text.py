"""HCL-AL: ids of texts."""

import pytest
import torch

from medvlp.text.clip_tokenizer import ClipTokenizer

from .registry import Case, handles


@handles("hcl_al", "tokenizer")
def tokenizer(case: Case) -> None:
    config = case.config
    length = case.outputs["ids"].shape[1]
    encode = ClipTokenizer(None, length, padding="max_length")
    tokens = encode(config["texts"])
    case.assert_close("ids", tokens.input_ids.int(), case.outputs["ids"])
    assert torch.equal(tokens.attention_mask.sum(1) - 1, tokens.input_ids.argmax(1))
    if "too_long_text" in config:
        with pytest.raises(ValueError, match=r"tokenizer\.truncate=true"):
            encode([config["too_long_text"]])
    if "truncate_text" in config:
        cut = ClipTokenizer(None, length, padding="max_length", truncate=True)
        with pytest.warns(UserWarning, match="were cut"):
            found = cut([config["truncate_text"]])
        case.assert_close("truncated_ids", found.input_ids.int(), case.outputs["truncated_ids"])
    case.assert_all_compared()
