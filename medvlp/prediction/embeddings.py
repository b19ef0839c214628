"""Features of labelled data by a frozen image tower, computed once and kept."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.nn import functional as F

from medvlp.data.cache import write_atomically
from medvlp.data.image_recipe import ImageRecipe
from medvlp.evaluation.embedded_set import EmbeddedSet
from medvlp.prediction.loaded_model import LoadedModel

_LOG = logging.getLogger(__name__)
_MOST_AT_ONCE = 64  # training batches are larger than a forward pass needs
_SPLITS = "medvlp.data.splits.Splits"
_LISTS = ("sample_id", "patient_id", "metadata")
_KEPT = (*_LISTS, "labels", "recipe_hash")
_NO_MATTER = ("cache_dir", "batch_size", "num_workers", "in_memory", "engine", "seed")

Features = Literal["image_features", "image_embedding"]
"""image_features: before the projection, as CLIP's linear probes (Radford et al., ICML 2021, A.3);
image_embedding: after projection and normalisation, what zero-shot uses."""


@dataclass(frozen=True)
class Embedder:
    """Embeds the splits of a data set.

    Attributes:
        loaded: The model, with the tree whose data are embedded.
        checkpoint_hash: Of its file; part of the name of what is kept.
        features: See `Features`.
        device: Where it runs.
    """

    loaded: LoadedModel
    checkpoint_hash: str
    features: Features
    device: str

    def split(self, name: str) -> EmbeddedSet | None:
        """Embed "train", "val" or "test" with the evaluation transform, or recall it.

        What is kept lies in `embeddings` of the data's cache, under the hash of the checkpoint,
        the recipe, the features and the data.

        Returns:
            None if the data have no such split.

        Raises:
            FileNotFoundError, ValueError: If the data cannot be read.
        """
        node = dict(self.loaded.tree["data"])
        images = isinstance(self.loaded.recipe, ImageRecipe)
        if images:
            if not node.get(name):
                return None
            node |= {"train": [], "val": [], "test": node[name]}
        else:
            node["splits"] = {"_target_": _SPLITS, **(node.get("splits") or {}), "predict": name}
        size = min(int(node.get("batch_size") or _MOST_AT_ONCE), _MOST_AT_ONCE)
        node |= {"tokenizer": None, "batch_size": size}
        data = instantiate(node, _convert_="all")
        data.prepare_data()
        data.setup("test" if images else "predict")
        loader = data.predict_dataloader()
        if not len(loader):
            return None
        described = [one.describe() for one in data.sets["test"]] if images else []
        described += [loader.sampler.describe()["samples"]]
        path = Path(data.cache_dir) / "embeddings" / f"{self._key(node, described)}.npz"
        if path.is_file():
            _LOG.info("%s: embedded before, in %s", name, path)
            return EmbeddedSet.from_file(path)
        found = self._embed(data, loader, name)
        write_atomically(path, found.to_bytes())
        return found

    def _key(self, node: Mapping[str, Any], described: list[Any]) -> str:
        facts = {
            "checkpoint": self.checkpoint_hash,
            "recipe": self.loaded.recipe.hash,
            "features": self.features,
            "data": {key: value for key, value in node.items() if key not in _NO_MATTER},
            "described": described,
        }
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _embed(self, data: Any, loader: Any, name: str) -> EmbeddedSet:
        from rich.console import Console
        from rich.progress import track

        self.loaded.two_tower.to(self.device)
        features: list[np.ndarray] = []
        batches: list[Any] = []
        for batch in track(loader, f"embedding {name}", console=Console(stderr=True)):
            moved = data.transfer_batch_to_device(batch, torch.device(self.device), 0)
            features.append(self._features(moved).cpu().numpy())
            batches.append({key: batch.get(key) for key in _KEPT})
        rows = {key: [value for batch in batches for value in batch[key]] for key in _LISTS}
        labels = torch.cat([batch["labels"] for batch in batches]).numpy()
        return EmbeddedSet(
            features=np.concatenate(features),
            labels=labels,
            label_names=list(data.label_names),
            sample_ids=rows["sample_id"],
            patient_ids=rows["patient_id"],
            metadata=[dict(row) for row in rows["metadata"]],
            recipe_hash=batches[0]["recipe_hash"],
        )

    @torch.inference_mode()
    def _features(self, batch: Any) -> Tensor:
        model = self.loaded.two_tower
        features = model.vision(batch["image"], batch["num_scans"])
        if self.features == "image_embedding":
            features = F.normalize(model.image_projection(features), dim=-1)
        return features.flatten(1).float()  # of dual towers both tokens
