"""Lesions of a study in, names of places out: patches, embeddings and the cascade together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.data.recipe import Prepared, Region
from medvlp.data.records import Lesion
from medvlp.data.scan import Scan
from medvlp.evaluation.place_cascade import LesionFacts, PlaceAnswer, PlaceCascade, embed_words
from medvlp.models.hcl_al import HCLAL, LesionEncoder
from medvlp.prediction.remembered_texts import remembered_embeddings, texts_key
from medvlp.types import Tokens

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, eq=False)
class LesionStage:
    """A model and the patches it was trained on.

    Attributes:
        model: With its weights.
        recipe: Has the grid of the stage.
        tokenizer: The one the text tower was trained with.
    """

    model: HCLAL
    recipe: LesionRecipe
    tokenizer: Callable[[list[str]], Tokens]


class _ReadyStage(NamedTuple):
    """What is left of a stage once the texts are embedded.

    Attributes:
        recipe: Cuts its patches.
        encoder: Embeds them.
        texts: Embeddings of its words.
    """

    recipe: LesionRecipe
    encoder: LesionEncoder
    texts: Float[Tensor, "k e"]


class LesionLocaliser:
    """Name the places of lesions; the texts of the vocabulary are embedded once, here.

    Args:
        cascade: Has the vocabulary, with descriptions.
        coarse: Its recipe has a coarse grid; None where ranked coarse places are given.
        fine: Its recipe has a fine grid; None names coarse places only.
        device: Where the models run.
        precision: Of the image towers; "bf16" takes half the time on CPUs and GPUs that know it,
            and changes probabilities in the second digit. Texts are always embedded in float32.
        batch_size: Patches at once; a coarse one of the published size takes about 0.15 GB.
        text_cache: Folder that keeps the texts' embeddings for the next time; None keeps none.

    Raises:
        ValueError: If both stages are None, a recipe lacks its grid, a word its description, or
            the precision is unknown.
    """

    def __init__(
        self,
        cascade: PlaceCascade,
        *,
        coarse: LesionStage | None,
        fine: LesionStage | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
        batch_size: int = 4,
        text_cache: Path | None = None,
    ) -> None:
        named = {"coarse": coarse, "fine": fine}
        self.cascade, self.device, self.batch_size = cascade, torch.device(device), batch_size
        if precision not in get_args(Precision):
            raise ValueError(f"precision {precision!r} is unknown; choose {get_args(Precision)}")
        self.precision = precision
        stages = {name: stage for name, stage in named.items() if stage is not None}
        if not stages:
            raise ValueError("neither a coarse nor a fine stage: there is nothing to name by")
        for name, stage in stages.items():
            if name not in stage.recipe.grids:
                raise ValueError(f"the recipe of the {name} stage has no {name} patch")
        # models are not kept: where nobody else does either, text towers take no more memory
        self.stages = {name: self._ready(name, stage, text_cache) for name, stage in stages.items()}

    def localise(
        self,
        scan: Scan,
        lesions: Sequence[Lesion],
        *,
        sex: str = "",
        coarse: Sequence[Mapping[str, float]] | None = None,
    ) -> list[PlaceAnswer]:
        """Name the place of each lesion of a study.

        Args:
            scan: With the companions that the recipes need, each on a grid of its own.
            lesions: Boxes, and labels in the mask.
            sex: Of the patient: "F", "M", or empty.
            coarse: Ranked coarse places of each lesion, in place of the coarse stage.

        Raises:
            ValueError: If a volume cannot be what it is said to be, or there is no coarse stage
                and `coarse` is not given.
        """
        if not lesions:
            return []
        studies = self._prepared(scan)
        if coarse is None:
            if "coarse" not in studies:
                raise ValueError("there is no coarse stage: give the ranked coarse places")
            coarse = self.cascade.coarse(self._cosines("coarse", studies["coarse"], lesions))
        fine = self._cosines("fine", studies["fine"], lesions) if "fine" in studies else None
        facts = [
            LesionFacts((width, height, depth), sex)
            for _, _, _, width, height, depth in (lesion.box_mm for lesion in lesions)
        ]
        return self.cascade.answers(coarse, fine, facts)

    def _ready(self, name: str, stage: LesionStage, text_cache: Path | None) -> _ReadyStage:
        vocabulary = self.cascade.vocabulary
        words = vocabulary.coarse_words if name == "coarse" else vocabulary.all_fine_words
        stage.model.eval().to(self.device)
        texts = self._embed_texts(stage, words, text_cache)
        return _ReadyStage(stage.recipe, stage.model.lesion_encoder(), texts)

    def _prepared(self, scan: Scan) -> dict[str, Prepared]:
        """Prepare the volumes of each stage, once where both stages store the same."""
        made: dict[str, Prepared] = {}
        of_contract: dict[str, Prepared] = {}
        for name, stage in self.stages.items():
            facts = stage.recipe.describe() | {"patches": None}
            contract = repr(sorted(facts.items()))
            if contract not in of_contract:
                of_contract[contract] = stage.recipe.prepare(scan)
            made[name] = of_contract[contract]
        return made

    @torch.inference_mode()
    def _cosines(
        self, name: str, study: Prepared, lesions: Sequence[Lesion]
    ) -> Float[Tensor, "b k"]:
        _, encoder, texts = self.stages[name]
        rows: list[Tensor] = []
        for patches in self._patches(name, study, lesions):
            on_device = patches.to(self.device, memory_format=torch.channels_last_3d)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                embedding = encoder(on_device)
            rows.append(embedding.float() @ texts.float().T)
        return torch.cat(rows).cpu()

    def _patches(
        self, name: str, study: Prepared, lesions: Sequence[Lesion]
    ) -> Iterator[Float[Tensor, "b c x y z"]]:
        """Cut the patches of some lesions at a time."""
        recipe = self.stages[name].recipe

        def read(field: str, region: Region | None) -> Any:
            return study.arrays[field] if region is None else study.arrays[field][region]

        for start in range(0, len(lesions), self.batch_size):
            cut = [
                recipe.inputs(read, study.facts, target=vars(lesion))[f"lesion_{name}"]
                for lesion in lesions[start : start + self.batch_size]
            ]
            yield torch.stack(cut)

    @torch.inference_mode()
    def _embed_texts(
        self, stage: LesionStage, words: Sequence[str], folder: Path | None
    ) -> Float[Tensor, "k e"]:
        vocabulary = self.cascade.vocabulary

        def embed_tokens(tokens: Tokens) -> Tensor:
            return stage.model.embed_text(Tokens(*(part.to(self.device) for part in tokens)))

        def embed(chosen: Sequence[str]) -> Tensor:
            return embed_words(vocabulary, chosen, stage.tokenizer, embed_tokens)

        if folder is None:
            return embed(words)
        key = texts_key(stage.model, vocabulary, words)
        return remembered_embeddings(folder, key, words, embed).to(self.device)
