from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest

from medvlp.callbacks.results_writer import ResultsWriter


class Trainer(pl.Trainer):
    def __init__(self, label_names: tuple[str, ...]) -> None:
        self.datamodule: Any = SimpleNamespace(label_names=label_names)


def compare(expected: list[str], data: tuple[str, ...], stage: str = "test") -> None:
    module: Any = pl.LightningModule()
    module.evaluations = {"mine": SimpleNamespace(label_names=expected), "other": object()}
    ResultsWriter("nowhere").setup(Trainer(data), module, stage)


def test_labels_must_agree_in_names_and_order():
    compare(["a", "b"], ("a", "b"))
    compare(["a", "b"], ())  # data without labels
    compare(["a", "b"], ("b",), "predict")
    for data in (("b", "a"), ("a", "c"), ("a",)):
        with pytest.raises(ValueError, match=r"evaluation mine expects the labels a, b; the data"):
            compare(["a", "b"], data)
