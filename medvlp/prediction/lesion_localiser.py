"""Lesions of a study in, names of places out: patches, embeddings and the cascade together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.data.lesion_recipe import LesionRecipe
from medvlp.data.recipe import Prepared, Region
from medvlp.data.records import Lesion
from medvlp.data.scan import Scan
from medvlp.evaluation.place_cascade import LesionFacts, PlaceAnswer, PlaceCascade, embed_words
from medvlp.models.hcl_al import HCLAL
from medvlp.prediction.remembered_texts import remembered_embeddings, texts_key
from medvlp.types import Tokens


@dataclass(frozen=True, eq=False)
class LesionStage:
    """A model and the patches it was trained on.

    Attributes:
        model: In evaluation mode.
        recipe: Has the grid of the stage.
        tokenizer: The one the text tower was trained with.
    """

    model: HCLAL
    recipe: LesionRecipe
    tokenizer: Callable[[list[str]], Tokens]


class LesionLocaliser:
    """Name the places of lesions; the texts of the vocabulary are embedded once, here.

    Args:
        cascade: Has the vocabulary, with descriptions.
        coarse: Its recipe has a coarse grid; None where ranked coarse places are given.
        fine: Its recipe has a fine grid; None names coarse places only.
        device: Where the models run.
        batch_size: Patches at once; a coarse one of the published size takes about 0.3 GB.
        text_cache: Folder that keeps the texts' embeddings for the next time; None keeps none.

    Raises:
        ValueError: If both stages are None, a recipe lacks its grid, or a word its description.
    """

    def __init__(
        self,
        cascade: PlaceCascade,
        *,
        coarse: LesionStage | None,
        fine: LesionStage | None = None,
        device: str = "cpu",
        batch_size: int = 4,
        text_cache: Path | None = None,
    ) -> None:
        stages = {"coarse": coarse, "fine": fine}
        self.cascade, self.device, self.batch_size = cascade, torch.device(device), batch_size
        self.stages = {name: stage for name, stage in stages.items() if stage is not None}
        if not self.stages:
            raise ValueError("neither a coarse nor a fine stage: there is nothing to name by")
        for name, stage in self.stages.items():
            if name not in stage.recipe.grids:
                raise ValueError(f"the recipe of the {name} stage has no {name} patch")
            # a fifth less time on a CPU than with channels first; PyTorch's stubs lack the keyword
            layout: Any = {"memory_format": torch.channels_last_3d}
            stage.model.eval().to(device=self.device, **layout)
        words = cascade.vocabulary.coarse_words, cascade.vocabulary.all_fine_words
        self._texts = {
            name: self._embed_texts(self.stages[name], chosen, text_cache)
            for name, chosen in zip(stages, words, strict=True)
            if name in self.stages
        }

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
        texts, model = self._texts[name], self.stages[name].model
        rows = [
            model.embed_lesion(
                patches.to(self.device, memory_format=torch.channels_last_3d)
            ).float()
            @ texts.float().T
            for patches in self._patches(name, study, lesions)
        ]
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
