"""From samples to a batch: scans packed in a row, texts tokenised, ids filled up with -1."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int
from torch import Tensor

from medvlp.data.batch_memory import stack
from medvlp.data.image_dataset import ImageSample, ImageSamples
from medvlp.data.text_sampler import TextUnit
from medvlp.data.volume_dataset import PackedSamples, Sample
from medvlp.types import Conversation, ImageBatch, Tokens, VolumeBatch

Tokenizer = Callable[[Sequence[str]], Tokens]
"""One that also has `conversation(questions, answers)` is for a language model."""

_Tokenised = TypeVar("_Tokenised", Tokens, Conversation)


class _Collate:
    """Batches what samples say of themselves; runs in the workers, so that they tokenise.

    Args:
        tokenizer: None leaves texts out.
        recipe_hash: Goes into the batch.
    """

    def __init__(self, tokenizer: Tokenizer | None, recipe_hash: str) -> None:
        self.tokenizer = tokenizer
        self.recipe_hash = recipe_hash

    def _described(self, samples: Sequence[Sample] | Sequence[ImageSample]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            "sample_id": [sample.sample_id for sample in samples],
            "patient_id": [sample.patient_id for sample in samples],
            "recipe_hash": self.recipe_hash,
            "study_statements": _filled([sample.statements for sample in samples]),
            "labels": torch.tensor([sample.labels for sample in samples], dtype=torch.int64),
            "metadata": [dict(sample.metadata) for sample in samples],
        }
        owners = [row for row, sample in enumerate(samples) for _ in sample.texts]
        units = [unit for sample in samples for unit in sample.texts]
        if self.tokenizer is not None and any(unit.question is not None for unit in units):
            return batch | self._converse(owners, units)
        if self.tokenizer is not None and owners:
            if hasattr(self.tokenizer, "conversation"):
                raise ValueError(
                    f"{type(self.tokenizer).__name__} takes questions with answers and the texts "
                    "are plain; set data.texts to conversations, or take another tokenizer"
                )
            texts = [unit.text for unit in units]
            batch["tokens"], batch["num_truncated"] = self._counting_cuts(self.tokenizer, texts)
            batch["text_study"] = torch.tensor(owners)
            batch["text_kind"] = torch.tensor([int(unit.kind) for unit in units])
            batch["text_statements"] = _filled([unit.statements for unit in units])
            batch |= _of_organs(units) | _wrong_texts(units, self.tokenizer)
        return batch

    def _converse(self, owners: list[int], units: list[TextUnit]) -> dict[str, Any]:
        """Make the conversation of a batch: one question and answer for each study."""
        if owners != list(range(len(owners))) or any(unit.question is None for unit in units):
            raise ValueError(
                f"{len(units)} texts of {len(set(owners))} studies, and not one question with its "
                "answer for each; take the same data.texts for all data sets"
            )
        conversation = getattr(self.tokenizer, "conversation", None)
        if conversation is None:
            raise ValueError(
                "the texts are conversations, and "
                f"{type(self.tokenizer).__name__} makes none; set tokenizer to a "
                "medvlp.text.conversation_tokenizer.ConversationTokenizer"
            )
        question = [str(unit.question) for unit in units]
        answer = [unit.text for unit in units]
        made, num_truncated = self._counting_cuts(conversation, question, answer)
        return {
            "question": question,
            "answer": answer,
            "conversation": made,
            "num_truncated": num_truncated,
        }

    def _counting_cuts(
        self, tokenise: Callable[..., _Tokenised], *texts: list[str]
    ) -> tuple[_Tokenised, int]:
        """Return tokens and how many texts were cut; the DataModule warns, for all workers."""
        before = getattr(self.tokenizer, "num_truncated", 0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\d+ of \d+ (texts|answers) are longer")
            tokens = tokenise(*texts)
        return tokens, getattr(self.tokenizer, "num_truncated", 0) - before


class Collate(_Collate):
    """Makes a `VolumeBatch`."""

    def __call__(self, samples: Sequence[Sample]) -> VolumeBatch:
        """Pack samples in their order."""
        batch = {
            **_packed(samples),
            "num_scans": torch.tensor([len(sample.inputs) for sample in samples]),
            "study_id": [sample.study_id for sample in samples],
            "target": [sample.target for sample in samples],
            **self._described(samples),
        }
        return cast(VolumeBatch, batch)


class ImageCollate(_Collate):
    """Makes an `ImageBatch`."""

    def __call__(self, samples: Sequence[ImageSample]) -> ImageBatch:
        """Stack samples in their order."""
        packed = isinstance(samples, ImageSamples)
        batch = {
            "image": samples.images if packed else stack([sample.image for sample in samples]),
            "replaced": [(skip.id, skip.reason) for skip in samples.replaced] if packed else [],
            "num_scans": torch.ones(len(samples), dtype=torch.int64),
            "study_id": [sample.sample_id for sample in samples],
            **self._described(samples),
        }
        return cast(ImageBatch, batch)


def _packed(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Stack every field over the scans of the batch, but for those that are stacked already."""
    packed = dict(samples.packed) if isinstance(samples, PackedSamples) else {}
    scans = [inputs for sample in samples for inputs in sample.inputs]
    for name, tensor in scans[0].items():
        # a field that a recipe gives two names is stacked once
        twin = next((other for other in packed if scans[0].get(other) is tensor), None)
        if twin is not None:
            packed[name] = packed[twin]
        elif name not in packed:
            packed[name] = stack([inputs[name] for inputs in scans])
    return packed


def _of_organs(units: Sequence[TextUnit]) -> dict[str, Tensor]:
    """Say which organs texts are about, and which are equal; nothing of whole studies' texts."""
    about = sum(unit.organ >= 0 for unit in units)
    captions = {"text_caption": torch.tensor([unit.caption for unit in units])}
    if not about:
        return captions if units and all(unit.caption >= 0 for unit in units) else {}
    if about < len(units):
        raise ValueError(
            f"{about} of {len(units)} texts of a batch are about an organ and the others about "
            "whole studies; take the same data.texts for all data sets"
        )
    return {
        "text_organ": torch.tensor([unit.organ for unit in units]),
        "text_normal": torch.tensor([unit.normal for unit in units]),
        **captions,
    }


def _wrong_texts(units: Sequence[TextUnit], tokenizer: Tokenizer) -> dict[str, Tokens]:
    """Tokenise the wrong texts, each once however often it occurs."""
    counts = {len(unit.negatives) for unit in units}
    if counts == {0}:
        return {}
    if len(counts) > 1:
        raise ValueError(
            f"texts of a batch have between {min(counts)} and {max(counts)} wrong ones beside "
            "them, and need as many each; take the same data.texts for all data sets"
        )
    wrong = [text for unit in units for text in unit.negatives]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(wrong))}
    rows = torch.tensor([row_of[text] for text in wrong])
    return {"negatives": Tokens(*(part[rows] for part in tokenizer(list(row_of))))}


def _filled(rows: Sequence[Sequence[int]]) -> Int[Tensor, "r u"]:
    longest = max((len(row) for row in rows), default=0)
    return torch.tensor(
        [[*row, *[-1] * (longest - len(row))] for row in rows], dtype=torch.int64
    ).reshape(len(rows), longest)
