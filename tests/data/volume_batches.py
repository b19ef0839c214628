from collections.abc import Sequence
from typing import Any

import torch

from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.splits import Splits
from medvlp.data.texts import SentenceSampler
from medvlp.data.volume_datamodule import VolumeDataModule
from medvlp.types import Tokens, VolumeBatch

from .conftest import CTRateTree


class Letters:
    """A tokenizer of characters."""

    def __call__(self, texts: Sequence[str]) -> Tokens:
        longest = max(map(len, texts))
        rows = [[ord(letter) for letter in text] + [0] * (longest - len(text)) for text in texts]
        ids = torch.tensor(rows)
        return Tokens(ids, ids != 0)


def datamodule(tree: CTRateTree, recipe: CTRecipe, **options: Any) -> VolumeDataModule:
    fields = {
        "tokenizer": Letters(),
        "texts": SentenceSampler(),
        "splits": Splits(0.2),
        "batch_size": 2,
        "engine": LocalEngine(1),
    }
    cache = str(tree.root.parent / "cache")
    module = VolumeDataModule(
        CTRate(str(tree.root)), recipe, cache_dir=cache, **{**fields, **options}
    )
    module.prepare_data()
    module.setup()
    return module


def epoch(module: VolumeDataModule, number: int = 0) -> list[VolumeBatch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def text_of(batch: VolumeBatch) -> list[str]:
    return ["".join(map(chr, row[row != 0].tolist())) for row in batch["tokens"].input_ids]
