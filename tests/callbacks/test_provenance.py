from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest

from medvlp.callbacks.provenance import CHECKPOINT_KEY, Provenance

TREE = {"paths": {"run": "nowhere"}, "seed": 0}
BEFORE = {"size": [48, 48, 48], "window_hu": [-1000, 600]}


class Trainer(pl.Trainer):
    def __init__(self, fields: dict[str, Any]) -> None:
        recipe = SimpleNamespace(hash=str(fields), describe=lambda: fields)
        self.datamodule: Any = SimpleNamespace(recipe=recipe)


def load(allow: list[str], **changes: Any) -> Provenance:
    callback = Provenance(TREE, TREE, allow_recipe=allow)
    checkpoint = {CHECKPOINT_KEY: {"recipe": {"hash": str(BEFORE), "fields": BEFORE}}}
    trainer = Trainer(BEFORE | changes)
    callback.on_load_checkpoint(trainer, pl.LightningModule(), checkpoint)
    return callback


def test_what_may_differ_is_allowed_by_name_and_recorded():
    assert load([]).recipe_changes == {}
    changed = load(["size"], size=[96, 48, 48])
    assert changed.recipe_changes == {"size": [[48, 48, 48], [96, 48, 48]]}


def test_every_other_difference_is_refused():
    with pytest.raises(ValueError, match=r"(?s)window_hu.*--allow_recipe=window_hu$"):
        load(["size"], size=[96, 48, 48], window_hu=[-150, 250])
    with pytest.raises(ValueError, match="no field sise that could be allowed"):
        load(["sise"], size=[96, 48, 48])
