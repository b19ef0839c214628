from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from medvlp.data.ct_recipe import CTRecipe
from medvlp.types import VolumeBatch

from .conftest import CTRateTree
from .volume_batches import datamodule, epoch


class Probe(LightningModule):
    """Counts what Lightning hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.epochs: list[list[str]] = []
        self.predicted: list[str] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        self.epochs[-1] += batch["study_id"]
        return self.layer(batch["image"].mean().reshape(1)).sum()

    def validation_step(self, batch: VolumeBatch, batch_idx: int) -> None:
        assert batch["image"].shape[1:] == (1, 6, 8, 8)

    def predict_step(self, batch: VolumeBatch, batch_idx: int) -> Tensor:
        self.predicted += batch["sample_id"]
        return batch["num_scans"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_lightning_sets_epochs_and_leaves_the_loader_alone(
    tree: CTRateTree, recipe: CTRecipe, tmp_path: Path, num_workers: int
) -> None:
    tree.write()
    module, probe = datamodule(tree, recipe, num_workers=num_workers), Probe()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(probe, module)
    expected = [[i for b in epoch(module, n) for i in b["study_id"]] for n in range(3)]
    assert probe.epochs == expected
    trainer.predict(probe, module, return_predictions=False)
    assert probe.predicted == ["valid_1_a_1", "valid_1_a_2", "valid_2_a_1", "valid_2_a_2"]
