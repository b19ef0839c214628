"""CLIP's byte pairs: lower case, an end token with the largest id, zeros behind it."""

import gzip
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from medvlp.text.tokenizers import Padding, TextTokenizer, cut_row

_NUM_MERGES = 48894
_WORD_END = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class ClipTokenizer(TextTokenizer):
    """Byte pair encoding of the first CLIP.

    A text that spells out a special token gets its letters, not that token.

    Args:
        merges: Path of a file of merges, one a line (`bpe_simple_vocab_16e6.txt.gz`, or a
            `merges.txt` of Hugging Face); None for CLIP's own, which are shipped.
        context_length: Longest text in tokens, special tokens included.
        padding: "longest" or "max_length".
        truncate: Cut longer texts; off, as published, they are refused.

    Raises:
        FileNotFoundError: If there is no such file.

    Reference: Radford et al., CLIP (ICML 2021); github.com/openai/CLIP.
    """

    pad_is_a_word = True

    def __init__(
        self,
        merges: str | None = None,
        context_length: int = 77,
        *,
        padding: Padding = "longest",
        truncate: bool = False,
    ) -> None:
        super().__init__(context_length, padding)
        if merges is not None and not Path(merges).is_file():
            raise FileNotFoundError(
                f"no file of merges at {merges}; leave tokenizer.merges out for CLIP's own"
            )
        self.merges = merges
        self.truncate = truncate

    @property
    def pad_id(self) -> int:
        """Zero, which is also the exclamation mark within a word."""
        return 0

    @property
    def vocab_size(self) -> int:
        """Tokens with the two special ones, which come last: start and end."""
        return self._tokenizer.get_vocab_size(with_added_tokens=False) + 2

    def count(self, text: str) -> int:
        """Count the tokens of a whole text, special tokens included."""
        return len(self._whole([text])[0])

    def _encode(self, texts: list[str]) -> list[list[int]]:
        rows = self._whole(texts)
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        if not self.truncate and len(rows[longest]) > self.context_length:
            raise ValueError(
                f"a text takes {len(rows[longest])} tokens and tokenizer.context_length is "
                f"{self.context_length}; shorten it, or set tokenizer.truncate=true: "
                f"{texts[longest][:80]!r}"
            )
        self._count_cuts([len(row) for row in rows])
        return [cut_row(row, self.context_length, row[-1]) for row in rows]

    def _whole(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch([text.lower() for text in texts])
        end = self.vocab_size - 1
        return [[end - 1, *encoding.ids, end] for encoding in found]

    @cached_property
    def _tokenizer(self) -> Any:
        merges = _read_merges(self.merges)
        alphabet = sorted(ByteLevel.alphabet())
        pieces = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
        pieces += ["".join(pair) for pair in merges]
        vocab = {piece: number for number, piece in enumerate(pieces)}
        tokenizer = Tokenizer(BPE(vocab, merges, end_of_word_suffix=_WORD_END))
        tokenizer.pre_tokenizer = InTurn(  # pyright: ignore
            [
                Split(Regex(_WORDS), behavior="removed", invert=True),
                ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded tokenizer behind: each process loads its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_tokenizer"}


def _read_merges(path: str | None) -> list[tuple[str, str]]:
    if path is None:
        content = (resources.files("medvlp.text") / "vocab" / "clip_merges.txt.gz").read_bytes()
    else:
        content = Path(path).read_bytes()
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    pairs = [
        line.split() for line in content.decode("utf-8").splitlines() if "#version" not in line
    ]
    pairs = [pair for pair in pairs if pair][:_NUM_MERGES]
    wrong = [pair for pair in pairs if len(pair) != 2]
    if wrong or not pairs:
        raise ValueError(
            f"{path} is no file of merges: {len(wrong) or 'all'} lines do not hold two pieces; "
            "give CLIP's bpe_simple_vocab_16e6.txt.gz, or leave tokenizer.merges out"
        )
    return [(first, second) for first, second in pairs]
