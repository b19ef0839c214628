"""Retrieval between studies and their reports, in both directions, as HLIP validates."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from medvlp.evaluation.prompt_evaluation import scored_token
from medvlp.evaluation.protocol import EmbedText
from medvlp.evaluation.results import Macro
from medvlp.evaluation.retrieval_metrics import (
    CUTOFFS,
    TieRule,
    first_of_each,
    matching_ranks,
    pools_of,
    rank_metrics,
)
from medvlp.evaluation.row_evaluation import RowEvaluation, Rows
from medvlp.evaluation.statistics import figure
from medvlp.types import TextKind, VolumeBatch


class Retrieval(RowEvaluation):
    """Find the report of a study and the study of a report; an `Evaluation`.

    A study is paired with the mean of the embeddings of its texts, normalised. Every figure comes
    twice: `all` over all samples, `dedup` over the first sample of each different text, because
    equal texts (normal reports, several reconstructions of one scan) cannot be told apart.
    Intervals resample the patients that ask; whom they ask among stays.

    Args:
        token: Which embedding of a study is scored, where the image tower gives several.
        kinds: Which texts of a study to use, of "REPORT", "FINDINGS", "IMPRESSION", "SENTENCE";
            None takes all that the data give.
        ties: Where equally similar items stand, see `matching_ranks`.
        cutoffs: The k of R@k.
        pools: Sizes of smaller sets to find among, besides all samples: these are divided at
            random into pools of that size, and every query asks its own pool.
        num_resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap and of the pools.
    """

    score_rule = "cosine"
    uncounted = "without a text"
    advice = (
        "there is nothing to retrieve; choose a text sampler in data.texts, or leave this "
        "evaluation out"
    )

    def __init__(
        self,
        *,
        token: int = 0,
        kinds: Sequence[str] | None = None,
        ties: TieRule = "worst",
        cutoffs: Sequence[int] = CUTOFFS,
        pools: Sequence[int] = (),
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        unknown = [kind for kind in kinds or () if kind not in TextKind.__members__]
        if unknown:
            raise ValueError(
                f"there is no kind of text {', '.join(unknown)}; choose among "
                f"{', '.join(TextKind.__members__)}"
            )
        if wrong := [number for number in (*cutoffs, *pools) if number < 1]:
            raise ValueError(f"cutoffs and pools have {wrong[0]}, expected at least 1")
        super().__init__(num_resamples=num_resamples, seed=seed)
        self.token, self.cutoffs, self.pools = token, tuple(cutoffs), tuple(pools)
        self.ties: TieRule = ties
        self.protocol = f"retrieval (ties: {ties})"
        self.kinds = None if kinds is None else [TextKind[kind] for kind in kinds]
        self._embed_text: EmbedText | None = None

    @property
    def class_names(self) -> list[str]:
        """Name the only score of a row: the cosine of study and text."""
        return ["similarity to its text"]

    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Keep the text tower: texts come with the batches."""
        self._embed_text = embed_text

    def update(self, image_embedding: Float[Tensor, "b *p e"], batch: VolumeBatch) -> None:
        """Embed the texts of a batch and keep both embeddings on the CPU."""
        images = scored_token(image_embedding, self.token).cpu()
        texts = self._texts(batch, images.device)
        for row, sample in enumerate(batch["sample_id"]):
            key, text = texts.get(row, ("", None))
            self._rows.append(
                {
                    "sample_id": sample,
                    "study_id": batch["study_id"][row],
                    "patient_id": batch["patient_id"][row],
                    "recipe_hash": batch["recipe_hash"],
                    "image": images[row].numpy(),
                    "text": None if text is None else text.numpy(),
                    "text_key": key,
                    "batch_size": len(texts),
                    "scores": [math.nan if text is None else float(images[row] @ text)],
                }
            )

    def _texts(self, batch: VolumeBatch, device: torch.device) -> dict[int, tuple[str, Tensor]]:
        """Return, by row of the batch, what tells its texts from others, and their embedding."""
        if self._embed_text is None:
            raise RuntimeError("update before prepare; call prepare once per model")
        if "tokens" not in batch or "text_study" not in batch or "text_kind" not in batch:
            return {}
        with torch.no_grad():
            embeddings = F.normalize(self._embed_text(batch["tokens"]).float(), dim=-1).to(device)
        ids, mask = (part.cpu() for part in batch["tokens"])
        owners, kinds = batch["text_study"].tolist(), batch["text_kind"].tolist()
        units: dict[int, list[int]] = {}
        for unit, (owner, kind) in enumerate(zip(owners, kinds, strict=True)):
            if self.kinds is None or kind in self.kinds:
                units.setdefault(owner, []).append(unit)
        found = {}
        for owner, own in units.items():
            read = sorted(str(ids[unit][mask[unit]].tolist()) for unit in own)
            key = hashlib.sha256("".join(read).encode()).hexdigest()
            found[owner] = (key, F.normalize(embeddings[own].mean(dim=0), dim=0))
        return found

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Take the samples that have a text."""
        return row["text"] is not None

    def macros(
        self, rows: Rows, weights: Float[np.ndarray, "r n"]
    ) -> tuple[list[Macro], list[str]]:
        """Rank in both directions, with all samples, with each text once, and in pools."""
        first = first_of_each([row["text_key"] for row in rows])
        once = [rows[place] for place in first]
        macros = [*self._directions(rows, ""), *self._directions(once, "_dedup")]
        notes = []
        for size in self.pools:
            if size >= len(rows):
                notes.append(f"no pools of {size}: there are {len(rows)} samples")
                continue
            pools = pools_of(len(rows), size, self.seed)
            macros += self._directions(rows, f"_pool_{size}", pools)
            notes.append(f"{len(pools)} pools of {size} of {len(rows)} samples")
        return [*macros, _pairs(rows, weights)], notes

    def predictions(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the similarity of each pair and its ranks among all samples."""
        ranks = self._ranks(rows)
        return [
            {
                "sample_id": row["sample_id"],
                "patient_id": row["patient_id"],
                "similarity to its text": row["scores"][0],
                "text": row["text_key"][:16],
            }
            | {f"rank {name}": float(own[k]) + 1 for name, own in ranks.items()}
            for k, row in enumerate(rows)
        ]

    def _ranks(
        self, rows: Rows, pools: Sequence[Int[np.ndarray, " m"]] | None = None
    ) -> dict[str, Float[np.ndarray, " n"]]:
        """Rank the matching item of every query, in each direction, among its own pool."""
        image, text = (
            torch.from_numpy(np.stack([row[side] for row in rows])) for side in ("image", "text")
        )
        own = [np.arange(len(rows))] if pools is None else pools
        return {
            name: np.concatenate(
                [matching_ranks(queries[p], items[p], ties=self.ties).double().numpy() for p in own]
            )
            for name, queries, items in (
                ("image_to_text", image, text),
                ("text_to_image", text, image),
            )
        }

    def _directions(
        self, rows: Rows, suffix: str, pools: Sequence[Int[np.ndarray, " m"]] | None = None
    ) -> list[Macro]:
        asking = rows if pools is None else [rows[k] for pool in pools for k in pool.tolist()]
        weights = self.weights(asking)
        macros = []
        for name, ranks in self._ranks(rows, pools).items():
            metrics = rank_metrics(ranks, weights, self.cutoffs)
            figures = {key: figure(v) for key, v in metrics.items()}
            count = figure(np.full(2, float(len(asking))))
            macros.append(Macro(name + suffix, [], figures | {"n": count}))
        return macros


def _pairs(rows: Rows, weights: Float[np.ndarray, "r n"]) -> Macro:
    """Average the similarity of matching pairs.

    The published `clip_val_score` weighs each pair by the size of its batch, so it is the mean
    only where studies are embedded one by one. Here both are cosines.
    """
    cosine = np.array([row["scores"][0] for row in rows])
    size = np.array([row["batch_size"] for row in rows])
    total = weights.sum(axis=1)
    figures = {
        "similarity": figure(weights @ cosine / total),
        "clip_val_score": figure(weights @ (cosine * size) / total),
    }
    return Macro("pairs", [], figures)
