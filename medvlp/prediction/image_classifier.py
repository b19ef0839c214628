"""Images and texts in, probabilities out: the quick start of 2D models, and what predict uses.

from medvlp.prediction.image_classifier import ImageClassifier

model = ImageClassifier.load("unimed-clip-vit-b16.pt", experiment="unimed_vitb16")
result = model(["chest.png", "brain.dcm"], ["a chest X-ray", "an MRI of a brain"])
result.table  # one row per image, one column per text
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from medvlp.data.image_recipe import ImageRecipe
from medvlp.evaluation.image_text_scores import Scoring, image_text_scores
from medvlp.evaluation.prompt_evaluation import class_embeddings
from medvlp.models.two_tower import TwoTower
from medvlp.prediction.image_files import ImageInputs, ReadInput, find_images
from medvlp.prediction.image_scores import SHOWN, ImageScores
from medvlp.prediction.loaded_model import LoadedModel, load_model

Texts = str | Sequence[str] | Mapping[str, Sequence[str]]


class ImageClassifier:
    """Says how well texts fit images; needs no network and no GPU.

    Args:
        loaded: A checkpoint of a 2D model.
        device: Where it runs; None takes a GPU if there is one.

    Raises:
        ValueError: If it is a model of volumes.
    """

    def __init__(self, loaded: LoadedModel, *, device: str | None = None) -> None:
        if not isinstance(loaded.recipe, ImageRecipe):
            raise ValueError(
                f"{loaded.facts['file']} is a model of volumes ({loaded.experiment}), a model of "
                "2D images is needed; medvlp.predict takes both"
            )
        self.recipe, self.tokenizer, self.facts = loaded.recipe, loaded.tokenizer, loaded.facts
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model: TwoTower = loaded.two_tower.to(self.device)
        self._known: dict[tuple[str, ...], Tensor] = {}

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        *,
        experiment: str | None = None,
        overrides: Sequence[str] = (),
        device: str | None = None,
    ) -> "ImageClassifier":
        """Load a checkpoint of `medvlp.train`, or published weights of a named experiment.

        Raises:
            FileNotFoundError, ValueError: See `load_model`.
        """
        loaded = load_model(Path(checkpoint), experiment=experiment, overrides=overrides)
        return cls(loaded, device=device)

    def __call__(
        self,
        images: str | Path | Sequence[str | Path],
        texts: Texts,
        *,
        scoring: Scoring = "temperature",
        template: str = "",
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> ImageScores:
        """Score every image over all texts; `unreadable` of the scores names those left out.

        Args:
            images: Files, folders, patterns; see `find_images`.
            texts: Whole sentences; or names with several sentences each, whose mean embedding
                stands for the name.
            scoring: See `Scoring`.
            template: Goes before every sentence with a blank, as in UniMed-CLIP's web demo; with
                "{}" in it the sentence goes there.
            batch_size: Images of a forward pass.
            num_workers: Processes that read images.

        Raises:
            FileNotFoundError: If an image is not there.
            ValueError: If not one image can be read, or a text is empty or came twice.
        """
        groups = prompts_of(texts, template)
        paths = find_images([images] if isinstance(images, str | Path) else images).paths
        features, pictures, unreadable = self._embed(paths, batch_size, num_workers)
        return ImageScores(
            images=[str(path) for path in paths if str(path) not in unreadable],
            texts=list(groups),
            scores=self._scores(features, groups, scoring),
            scoring=scoring,
            unreadable=unreadable,
            embeddings=F.normalize(features, dim=-1).cpu().numpy(),
            pictures=pictures,
            facts={**self._origin(), "prompts": groups},
        )

    def _scores(
        self, features: Tensor, groups: Mapping[str, Sequence[str]], scoring: Scoring
    ) -> Float[np.ndarray, "b k"]:
        scale = self.model.logit_scale.detach().float()
        scores = image_text_scores(features, self.embed_texts(groups), scale, scoring=scoring)
        return scores.cpu().numpy()

    def _origin(self) -> dict[str, Any]:
        return {
            "checkpoint": dict(self.facts),
            "recipe_hash": self.recipe.hash,
            "recipe": self.recipe.describe(),
        }

    @torch.inference_mode()
    def embed_texts(self, groups: Mapping[str, Sequence[str]]) -> Float[Tensor, "k e"]:
        """Embed sentences, the mean of each group; what came before is remembered."""
        keys = [tuple(sentences) for sentences in groups.values()]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            embed = self.model.embed_text
            found = class_embeddings(new, self.tokenizer, embed, self.device)
            self._known |= dict(zip(new, found, strict=True))
        return torch.stack([self._known[key] for key in keys])

    def _embed(
        self, paths: Sequence[Path], batch_size: int, num_workers: int
    ) -> tuple[Tensor, np.ndarray, dict[str, str]]:
        """Return projected features (b e), pictures (n h w 3), and what could not be read."""
        loader = DataLoader(
            ImageInputs(paths, self.recipe),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=list,
        )
        features: list[Tensor] = []
        pictures: list[Tensor] = []
        reasons: list[str] = []
        for batch in cast("DataLoader[Any]", loader):
            pixels = [one.pixels for one in cast(list[ReadInput], batch) if one.pixels is not None]
            reasons += [one.reason for one in batch]
            if pixels:
                features.append(self._features(torch.stack(pixels)))
                pictures += pixels[: max(0, SHOWN - len(pictures))]
        unreadable = {str(p): why for p, why in zip(paths, reasons, strict=True) if why}
        if not features:
            named = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:5])
            raise ValueError(f"none of {len(paths)} images can be read: {named}")
        shown = torch.stack(pictures).permute(0, 2, 3, 1).numpy()
        return torch.cat(features), shown, unreadable

    @torch.inference_mode()
    def _features(self, pixels: Tensor) -> Tensor:
        image = self.recipe.finish(pixels.to(self.device))
        ones = torch.ones(len(image), dtype=torch.int64)
        return self.model.image_projection(self.model.vision(image, ones)).float()


def prompts_of(texts: Texts, template: str = "") -> dict[str, list[str]]:
    """Write out the sentences of every text.

    >>> prompts_of(["brain MRI", "chest X-ray"], "this is a photo of")["brain MRI"]
    ['this is a photo of brain MRI']
    >>> prompts_of({"CT": ["a CT", "a slice of CT"]}, "{}.")
    {'CT': ['a CT.', 'a slice of CT.']}

    Raises:
        ValueError: If there is none, one is empty, or one came twice.
    """
    if isinstance(texts, str):
        texts = [texts]
    named = texts if isinstance(texts, Mapping) else {text: [text] for text in texts}
    if len(named) < len(texts):
        twice = sorted({text for text in texts if list(texts).count(text) > 1})
        raise ValueError(f"texts came twice: {', '.join(twice)}; each shares in the probability")
    sentences = {name: list(group) for name, group in named.items()}
    if not sentences or any(not text.strip() for group in sentences.values() for text in group):
        raise ValueError("a text is empty, or none came; write what an image may show")
    empty = [name for name, group in sentences.items() if not group]
    if empty:
        raise ValueError(f"{', '.join(empty)}: no sentences; write at least one for each name")
    whole = template if "{}" in template else f"{template.strip()} {{}}".lstrip()
    return {name: [whole.replace("{}", text) for text in g] for name, g in sentences.items()}
