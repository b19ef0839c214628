"""Questions and answers as tokens of a causal language model, with places for image tokens."""

import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from medvlp.text.tokenizers import Padding
from medvlp.types import Conversation, Tokens

Cut = Literal["end", "sentence"]

IGNORED = -100
"""The label of a token that is not learned."""
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


class ConversationTokenizer:
    """Writes: begin of text, places of image tokens, question, a space, answer, end of text.

    The end is learned, but not looked at. Questions alone, for generation, are padded on the left.

    Args:
        name_or_path: Local folder or hub name of a Hugging Face tokenizer, the path of a
            tokenizer.json, or the name of a shipped one, such as "phantom_language". Code from
            there is never run.
        max_length: Longest conversation in tokens, image tokens included.
        num_image_tokens: Places before the question.
        image_token: Stands at each of them.
        special_tokens: Added to the vocabulary in this order unless they are there.
        added_tokens: As `special_tokens`, but not left out of decoded text.
        end_token: Ends a text, and begins and pads it where the tokenizer does not say with what;
            None asks the tokenizer.
        cut: Where an answer that is too long ends: at the "end" of the room, as published, or with
            a whole "sentence", so that the model learns to stop there.
        padding: Pad to the "longest" of the batch, or always to `max_length`.

    Attributes:
        num_truncated: Answers cut so far by this tokenizer (each worker process has its own).

    Reference: the published repository, github.com/YanzhaoShi/HSENet, which pads on the right and
    where pad and end are the same token learns the first of them.
    """

    def __init__(
        self,
        name_or_path: str,
        max_length: int,
        *,
        num_image_tokens: int = 256,
        image_token: str = "<im_patch>",
        special_tokens: Sequence[str] = ("<im_patch>", "<bx_start>", "<bx_end>"),
        added_tokens: Sequence[str] = ("[SEG]",),
        end_token: str | None = None,
        cut: Cut = "end",
        padding: Padding = "longest",
    ) -> None:
        if cut not in get_args(Cut) or padding not in get_args(Padding):
            raise ValueError(
                f"cut is {cut!r} and padding {padding!r}, expected one of {get_args(Cut)} and of "
                f"{get_args(Padding)}"
            )
        self.name_or_path, self.max_length = name_or_path, max_length
        self.num_image_tokens, self.image_token = num_image_tokens, image_token
        self.special_tokens, self.added_tokens = tuple(special_tokens), tuple(added_tokens)
        self.end_token = end_token
        self.cut: Cut = cut
        self.padding: Padding = padding
        self.num_truncated = 0

    @property
    def vocab_size(self) -> int:
        """Count the vocabulary with the tokens that were added; each needs an embedding."""
        return len(self._tokenizer)

    @property
    def added_ids(self) -> list[int]:
        """The ids of the special and the added tokens, which a model has not met before."""
        added = [*self.special_tokens, *self.added_tokens]
        return self._tokenizer.convert_tokens_to_ids(added)

    @property
    def image_id(self) -> int:
        """The id at the places of image tokens."""
        return self._tokenizer.convert_tokens_to_ids(self.image_token)

    @property
    def end_id(self) -> int:
        """The id that ends a text."""
        return self._tokenizer.eos_token_id

    @property
    def pad_id(self) -> int:
        """The id that fills short texts; often that of the end."""
        return self._tokenizer.pad_token_id

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise questions alone, as `prompts` does."""
        return self.prompts(texts)

    def conversation(self, questions: Sequence[str], answers: Sequence[str]) -> Conversation:
        """Tokenise questions with their answers; only the answers and their ends are learned.

        Raises:
            ValueError: If a question has no room, see `prompts`.
        """
        starts = [len(ids) for ids in self._prompts(questions)]
        before = self.num_truncated
        rows = [self._row(q, answer) for q, answer in zip(questions, answers, strict=True)]
        if before == 0 and self.num_truncated:
            warnings.warn(
                f"{self.num_truncated} of {len(rows)} answers are longer than {self.max_length} "
                "tokens with their question and were cut; `num_truncated` of the tokenizer goes on "
                "counting. Raise tokenizer.max_length to keep more",
                stacklevel=2,
            )
        longest = max(min(len(ids) + 1, self.max_length) for ids in rows)
        length = longest if self.padding == "longest" else self.max_length
        input_ids = torch.full((len(rows), length), self.pad_id)
        attention_mask = torch.zeros(len(rows), length, dtype=torch.bool)
        labels = torch.full((len(rows), length), IGNORED)
        for row, (ids, start) in enumerate(zip(rows, starts, strict=True)):
            end = len(ids)
            input_ids[row, :end] = labels[row, :end] = torch.tensor(ids)
            attention_mask[row, :end] = True
            labels[row, :start] = IGNORED
            labels[row, labels[row] == self.pad_id] = IGNORED  # even where a text spells it out
            if end < length:
                input_ids[row, end] = labels[row, end] = self.end_id
        return Conversation(input_ids, attention_mask, labels)

    def prompts(self, questions: Sequence[str]) -> Tokens:
        """Tokenise questions alone, padded on the left, for a model to go on.

        Raises:
            ValueError: If there is no question, or one that leaves no room for an answer.
        """
        rows = self._prompts(questions)
        longest = max(map(len, rows))
        input_ids = torch.full((len(rows), longest), self.pad_id)
        attention_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, ids in enumerate(rows):
            input_ids[row, longest - len(ids) :] = torch.tensor(ids)
            attention_mask[row, longest - len(ids) :] = True
        return Tokens(input_ids, attention_mask)

    def decode(self, ids: Int[Tensor, "b l"]) -> list[str]:
        """Turn what a model wrote into texts, without special tokens."""
        return self._tokenizer.batch_decode(ids, skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write the tokenizer with its added tokens, as Hugging Face's libraries read it."""
        self._tokenizer.save_pretrained(folder)

    def _prompts(self, questions: Sequence[str]) -> list[list[int]]:
        if not questions:
            raise ValueError("no questions came; pass at least one string")
        rows = self._encode([self._prompt(question) for question in questions])
        longest = max(range(len(rows)), key=lambda row: len(rows[row]))
        if len(rows[longest]) >= self.max_length:
            raise ValueError(
                f"a question takes {len(rows[longest])} tokens, {self.num_image_tokens} of them "
                f"places of the image, and tokenizer.max_length is {self.max_length}: no room for "
                f"an answer; raise it, or shorten the question: {questions[longest][:80]!r}"
            )
        return rows

    def _row(self, question: str, answer: str) -> list[int]:
        """Encode one conversation without its end, cut to the room there is."""
        prompt = f"{self._prompt(question)} "
        (ids,) = self._encode([prompt + answer])
        if len(ids) <= self.max_length:
            return ids
        self.num_truncated += 1
        if self.cut == "sentence":
            for match in reversed(list(_SENTENCE_END.finditer(answer))):
                (shorter,) = self._encode([prompt + answer[: match.end()]])
                if len(shorter) < self.max_length:  # and the end has room
                    return shorter
        return ids[: self.max_length]

    def _prompt(self, question: str) -> str:
        begin = self._tokenizer.bos_token or self._tokenizer.eos_token
        return begin + self.image_token * self.num_image_tokens + question

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        shipped = resources.files("medvlp.text") / "vocab" / f"{self.name_or_path}.json"
        if Path(self.name_or_path).is_file():
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=self.name_or_path)
        elif shipped.is_file():
            with resources.as_file(shipped) as file:
                tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
        else:
            tokenizer = AutoTokenizer.from_pretrained(self.name_or_path, trust_remote_code=False)
        if self.end_token is not None:
            tokenizer.eos_token = self.end_token
        if tokenizer.eos_token is None:
            raise ValueError(
                f"the tokenizer {self.name_or_path} names no token that ends a text; set "
                "tokenizer.end_token, for instance <|endoftext|>"
            )
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        tokenizer.add_tokens(list(self.special_tokens), special_tokens=True)
        tokenizer.add_tokens(list(self.added_tokens))
        if self.image_token not in tokenizer.get_vocab():
            raise ValueError(
                f"the vocabulary of {self.name_or_path} lacks the image token "
                f"{self.image_token!r}; name it in tokenizer.special_tokens"
            )
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded tokenizer behind: each process loads its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_tokenizer"}
