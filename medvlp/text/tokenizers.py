"""From strings to tokens: cleaning, WordPiece, padding and truncation."""

import html
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import ftfy
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from medvlp.types import Tokens

Padding = Literal["longest", "max_length"]


def clean(text: str) -> str:
    """Repair broken Unicode, unescape HTML twice, collapse white space.

    >>> clean("  Mild\\n pleural&amp;amp;pericardial  effusion ")
    'Mild pleural&pericardial effusion'

    Reference: the text cleaning of open_clip, which HLIP uses.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


class TextTokenizer(ABC):
    """Clean, tokenise, truncate to the context length and pad on the right.

    Truncation is counted, and warned of once.

    Args:
        context_length: Longest text in tokens, special tokens included.
        padding: Pad to the "longest" text of the call, or always to the context ("max_length").

    Attributes:
        num_truncated: Texts cut so far by this tokenizer (each worker process has its own).
    """

    pad_is_a_word = False
    """Whether the id that fills short texts also stands for a word of them."""

    def __init__(self, context_length: int, padding: Padding) -> None:
        if context_length < 2:
            raise ValueError(
                f"context_length {context_length} has no room for the two special tokens"
            )
        if padding not in get_args(Padding):
            raise ValueError(f"padding {padding!r} is unknown; choose longest or max_length")
        self.context_length = context_length
        self.padding: Padding = padding
        self.num_truncated = 0

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """The id that fills short texts."""

    @abstractmethod
    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Return ids with special tokens, cut to the context, of clean texts; count the cuts."""

    @abstractmethod
    def count(self, text: str) -> int:
        """Count the tokens of a whole text, special tokens included."""

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise texts.

        Raises:
            ValueError: If there is no text.
        """
        if not texts:
            raise ValueError("no texts came; pass at least one string")
        before = self.num_truncated
        rows = self._encode([clean(text) for text in texts])
        if before == 0 and self.num_truncated:
            warnings.warn(
                f"{self.num_truncated} of {len(texts)} texts are longer than {self.context_length} "
                "tokens and were cut; `num_truncated` of the tokenizer goes on counting. Raise "
                "tokenizer.context_length to keep more",
                stacklevel=2,
            )
        longest = max(map(len, rows)) if self.padding == "longest" else self.context_length
        input_ids = torch.full((len(rows), longest), self.pad_id)
        attention_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            attention_mask[row, : len(ids)] = True
        # some models end texts with that id
        if not self.pad_is_a_word and all(ids[-1] != self.pad_id for ids in rows):
            attention_mask &= input_ids != self.pad_id  # a [PAD] written in a text, as published
        return Tokens(input_ids, attention_mask)

    def _count_cuts(self, full_lengths: Sequence[int]) -> None:
        self.num_truncated += sum(length > self.context_length for length in full_lengths)


_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieceTokenizer(TextTokenizer):
    """Uncased BERT WordPiece from a vocabulary file, one piece a line.

    A special token that stands in a text, such as [MASK], is that token, as with BERT's own
    tokenizer.

    Args:
        vocab: Path of the file, or the name of a shipped vocabulary, such as "phantom".
        context_length: Longest text in tokens, special tokens included.
        padding: "longest" or "max_length".

    Raises:
        FileNotFoundError: If there is no such vocabulary.
        ValueError: If it lacks a special token.
    """

    def __init__(
        self, vocab: str | Path, context_length: int, *, padding: Padding = "longest"
    ) -> None:
        super().__init__(context_length, padding)
        pieces = _read_vocab(vocab)
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        missing = [name for name in _SPECIAL[:-1] if name not in self._ids]
        if missing:
            raise ValueError(f"vocabulary {vocab} lacks {', '.join(missing)}; add one per line")
        self._tokenizer = Tokenizer(WordPiece(self._ids, unk_token="[UNK]"))
        self._tokenizer.add_special_tokens([name for name in _SPECIAL if name in self._ids])
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)  # pyright: ignore
        self._tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore
        self._tokenizer.post_processor = BertProcessing(  # pyright: ignore
            ("[SEP]", self._ids["[SEP]"]), ("[CLS]", self._ids["[CLS]"])
        )

    @property
    def pad_id(self) -> int:
        """The id of [PAD]."""
        return self._ids["[PAD]"]

    @property
    def vocab_size(self) -> int:
        """Pieces of the vocabulary; the text encoder needs at least as many embeddings."""
        return len(self._ids)

    def count(self, text: str) -> int:
        """Count the tokens of a whole text, special tokens included."""
        return len(self._tokenizer.encode(clean(text)).ids)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        self._count_cuts([len(row) for row in rows])
        end = self._ids["[SEP]"]
        return [cut_row(row, self.context_length, end) for row in rows]


class HFTokenizer(TextTokenizer):
    """The tokenizer of a Hugging Face model; loaded at first use, in each worker.

    Args:
        name_or_path: Local folder or hub name. Code from there is never run: where the class of
            the tokenizer is such code, as CXR-BERT's is, its vocabulary is read as BERT's would be.
        context_length: Longest text in tokens, special tokens included.
        padding: "longest" or "max_length".
    """

    def __init__(
        self, name_or_path: str, context_length: int, *, padding: Padding = "longest"
    ) -> None:
        super().__init__(context_length, padding)
        self.name_or_path = name_or_path

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer, BertTokenizer
        from transformers.models.auto.tokenization_auto import get_tokenizer_config

        if "auto_map" not in get_tokenizer_config(self.name_or_path):
            return AutoTokenizer.from_pretrained(self.name_or_path, trust_remote_code=False)
        tokenizer = BertTokenizer.from_pretrained(self.name_or_path, trust_remote_code=False)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):
            raise ValueError(
                f"the tokenizer of {self.name_or_path} is code of its own, which is never run, and "
                "brings no WordPiece vocabulary (vocab.txt) to do without; choose another tokenizer"
            )
        return tokenizer

    @property
    def pad_id(self) -> int:
        """The id that the model's tokenizer pads with."""
        return self._tokenizer.pad_token_id

    def count(self, text: str) -> int:
        """Count the tokens of a whole text, special tokens included."""
        return len(self._tokenizer(clean(text), verbose=False)["input_ids"])

    def _encode(self, texts: list[str]) -> list[list[int]]:
        # Counted on the full rows; the library's own truncation keeps the special tokens.
        full = self._tokenizer(texts, verbose=False)["input_ids"]
        self._count_cuts([len(row) for row in full])
        if all(len(row) <= self.context_length for row in full):
            return full
        return self._tokenizer(texts, truncation=True, max_length=self.context_length)["input_ids"]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded tokenizer behind: each process loads its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_tokenizer"}


def cut_row(row: list[int], context_length: int, end: int) -> list[int]:
    """Cut the ids of a text that is too long, and end them."""
    return row if len(row) <= context_length else [*row[: context_length - 1], end]


def _read_vocab(vocab: str | Path) -> list[str]:
    shipped = resources.files("medvlp.text") / "vocab"
    path = Path(vocab)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif (shipped / f"{vocab}.txt").is_file():
        text = (shipped / f"{vocab}.txt").read_text(encoding="utf-8")
    else:
        names = (
            [item.name.removesuffix(".txt") for item in shipped.iterdir()]
            if shipped.is_dir()
            else []
        )
        raise FileNotFoundError(
            f"no vocabulary file at {vocab}, and none of that name is shipped (shipped: "
            f"{', '.join(sorted(names)) or 'none'}); give a path or one of these names"
        )
    return text.splitlines()
