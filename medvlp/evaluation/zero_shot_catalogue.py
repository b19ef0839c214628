"""Zero-shot choice among the classes of many labelled sets, as UniMed-CLIP evaluates 21 of them."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F

from medvlp.data.catalogue_sets import CatalogueSet, Registry
from medvlp.evaluation.catalogue_results import (
    CatalogueProtocol,
    ScoredSet,
    catalogue_results,
)
from medvlp.evaluation.prompt_evaluation import class_means, scored_token
from medvlp.evaluation.protocol import EmbedText, Evaluation
from medvlp.evaluation.results import Results
from medvlp.evaluation.score_table import check_rows, distinct_rows
from medvlp.prompts.prompt_ensembles import PromptEnsembles
from medvlp.types import Tokens, VolumeBatch

_NO_SET = "of no set of this evaluation"
_NO_CLASS = "with a label outside the classes of their set"


class ZeroShotCatalogue(Evaluation):
    """Choose the class whose prompts are most similar to the image, set by set.

    A class vector is the normalised mean of the normalised embeddings of its prompts; the score is
    the cosine, and the first of equal scores wins (UniMed-CLIP's published evaluation). The batch's
    metadata say by `dataset` which set an image is of, and by `label` its class index, as those of
    `medvlp.data.image_catalogue.CatalogueImages` do.

    Figures are shares of 1. `acc` counts all images of a set alike, as published; `balanced_acc`
    its classes. The mean over the sets comes as `mean_acc`, over all accuracies, and as
    `mean_mixed`, where the AUC stands for the accuracy of the sets of two classes: the paper does
    not say which of them it averages. Sets without images or prompts are left out of the means by
    name.

    Args:
        tokenizer: The one the text tower was trained with.
        prompts: Name of the shipped prompt ensembles, or path of a JSON or YAML file.
        registry: Name of the shipped registry of sets, or path of a YAML file.
        class_norm: Shift and scale images and classes by mean and standard deviation over the
            class vectors of their set, before the last normalisation. Off in the protocol. The
            published code does this to image features of any length, here they are normalised
            first, as the class vectors are.
        token: Which embedding of an image is scored, where the tower gives several.
        num_resamples: Bootstrap resamples of patients, or of images where patients are unknown.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        tokenizer: Callable[[list[str]], Tokens],
        *,
        prompts: str = "unimed_clip",
        registry: str = "unimed21",
        class_norm: bool = False,
        token: int = 0,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.tokenizer, self.class_norm, self.token = tokenizer, class_norm, token
        self.prompts, self.registry = PromptEnsembles.load(prompts), Registry.load(registry)
        self.num_resamples, self.seed = num_resamples, seed
        self.sets: list[CatalogueSet] = []
        self.without_prompts: dict[str, str] = {}
        self._texts: list[list[list[str]]] = []
        for one in self.registry.sets.values():
            try:
                self._texts.append(self.prompts.texts(one.prompts, one.classes, one.num_prompts))
            except ValueError as error:
                self.without_prompts[one.name] = str(error)
                warnings.warn(f"{one.name} is left out: {error}", stacklevel=2)
            else:
                self.sets.append(one)
        if not self.sets:
            raise ValueError(f"no set of {registry} has prompts in {prompts}; choose other prompts")
        self._ends = np.cumsum([len(one.classes) for one in self.sets])
        self._classifiers: list[Tensor] = []
        self._shifts: list[tuple[Tensor, Tensor]] = []
        self._batches: list[dict[str, Any]] = []

    @property
    def class_names(self) -> list[str]:
        """Names of the scores of a row: every class of every set."""
        return [f"{one.name}: {name}" for one in self.sets for name in one.classes]

    def prepare(
        self, embed_text: EmbedText, logit_scale: Float[Tensor, "1"], device: torch.device
    ) -> None:
        """Encode every different prompt of all sets once; see `Evaluation.prepare`."""
        texts = [sentences for one in self._texts for sentences in one]
        with torch.no_grad():
            means = class_means(texts, self.tokenizer, embed_text, device)
        self._classifiers, self._shifts = [], []
        for own in means.split([len(one.classes) for one in self.sets]):
            classifier, shift = classifier_of(own, class_norm=self.class_norm)
            self._classifiers.append(classifier)
            self._shifts.append(shift)

    def update(self, image_embedding: Float[Tensor, "b *p e"], batch: VolumeBatch) -> None:
        """Score a batch in float32 by the classes of all sets; nothing leaves the device."""
        if not self._classifiers:
            raise RuntimeError("update before prepare; call prepare once per model")
        image = scored_token(image_embedding, self.token)
        if self.class_norm:
            parts = [
                F.normalize((image - mean) / std, dim=-1) @ classes.T
                for classes, (mean, std) in zip(self._classifiers, self._shifts, strict=True)
            ]
            scores = torch.cat(parts, dim=1)
        else:
            scores = image @ torch.cat(self._classifiers).T
        metadata = batch.get("metadata") or [{}] * len(image)
        self._batches.append(
            {
                "scores": scores,
                "sample_id": batch["sample_id"],
                "patient_id": batch["patient_id"],
                "recipe_hash": [batch["recipe_hash"]] * len(image),
                "dataset": [row.get("dataset", "") for row in metadata],
                "label": [row.get("label", "") for row in metadata],
            }
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per image: ids, set, label, and the scores of all classes as an array."""
        rows = []
        for batch in self._batches:
            columns = {**batch, "scores": batch["scores"].cpu().numpy()}
            rows += [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
        return rows

    def compute(self, rows: list[dict[str, Any]]) -> Results:
        """Compute the figures of every set and their means; see `catalogue_results`.

        Raises:
            ValueError: If no image is of a set of this evaluation, or the rows are not sound.
        """
        kept = distinct_rows(rows)
        check_rows(kept)
        scored, left_out = self._by_set(kept)
        sets = [
            _scored_set(one, scored[one.name], int(end))
            for one, end in zip(self.sets, self._ends, strict=True)
            if one.name in scored
        ]
        name = f"zero_shot_catalogue/{self.registry.name}"
        protocol = CatalogueProtocol(
            f"{name} (class norm)" if self.class_norm else name,
            self.registry,
            prompt_hash=self.prompts.hash,
            without_prompts=self.without_prompts,
            num_resamples=self.num_resamples,
            seed=self.seed,
        )
        facts = {
            "recipe_hash": kept[0]["recipe_hash"],
            "duplicates_dropped": len(rows) - len(kept),
            "left_out": left_out,
        }
        return catalogue_results(sets, protocol, facts)

    def reset(self) -> None:
        """Forget all scored images; the class vectors stay until the next `prepare`."""
        self._batches = []

    def _by_set(
        self, rows: Sequence[dict[str, Any]]
    ) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
        """Sort rows by their set, and count by reason those that take no part.

        Raises:
            ValueError: If none takes part.
        """
        num_classes = {one.name: len(one.classes) for one in self.sets}
        scored: dict[str, list[dict[str, Any]]] = {}
        left_out: Counter[str] = Counter()
        for row in rows:
            name, label = row["dataset"], row["label"]
            if name not in num_classes:
                left_out[_NO_SET] += 1
            elif not label.isdecimal() or int(label) >= num_classes[name]:
                left_out[_NO_CLASS] += 1
            else:
                scored.setdefault(name, []).append(row)
        if not scored:
            reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
            raise ValueError(
                f"no image can be scored ({reasons or 'there are none'}); use data whose images "
                "say which set they are of, as data=unimed21"
            )
        return scored, dict(left_out)


def classifier_of(
    means: Float[Tensor, "k e"], *, class_norm: bool = False
) -> tuple[Float[Tensor, "k e"], tuple[Float[Tensor, "1 e"], Float[Tensor, "1 e"]]]:
    """Normalise the class vectors; under `class_norm` shift and scale each axis first.

    Returns:
        The class vectors; mean and sample standard deviation over the classes, which images are to
        be shifted and scaled by (0 and 1 without `class_norm`).
    """
    mean, std = torch.zeros_like(means[:1]), torch.ones_like(means[:1])
    if class_norm:
        mean, std = means.mean(dim=0, keepdim=True), means.std(dim=0, keepdim=True)
        std = torch.where(std > 0, std, torch.inf)  # an axis on which classes agree says nothing
    return F.normalize((means - mean) / std, dim=-1), (mean, std)


def _scored_set(one: CatalogueSet, rows: Sequence[dict[str, Any]], end: int) -> ScoredSet:
    scores: Float[ndarray, "n k"] = np.stack([row["scores"] for row in rows])
    return ScoredSet(
        one=one,
        sample_ids=[row["sample_id"] for row in rows],
        patient_ids=[row["patient_id"] for row in rows],
        scores=scores[:, end - len(one.classes) : end],
        truth=np.array([int(row["label"]) for row in rows]),
    )
