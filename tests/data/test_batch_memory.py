from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.data.batch_memory import empty_batch, stack
from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.sampling import AllScans
from medvlp.data.volume_datamodule import ScanPolicy, VolumeDataModule

from .conftest import CTRateTree


def batches(tree: CTRateTree, recipe: CTRecipe, **options: Any) -> list[Tensor]:
    module = VolumeDataModule(
        CTRate(str(tree.root)),
        recipe,
        cache_dir=str(tree.root.parent / "cache"),
        scans=ScanPolicy(AllScans(), AllScans()),
        batch_size=2,
        engine=LocalEngine(1),
        **options,
    )
    module.prepare_data()
    module.setup("fit")
    cpu = torch.device("cpu")
    return [
        module.transfer_batch_to_device(batch, cpu, 0)["image"]
        for batch in module.train_dataloader()
    ]


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"in_memory": True}])
def test_images_packed_for_the_device_are_those_of_the_worker(
    tree: CTRateTree, recipe: CTRecipe, options: dict[str, Any]
) -> None:
    tree.write()
    expected = batches(tree, recipe)
    packed = batches(tree, recipe, dense="device", **options)
    assert len(packed) == len(expected) > 1
    for ours, theirs in zip(packed, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_stack_by_hand() -> None:
    rows = [torch.tensor([1, 2]), torch.tensor([3, 4])]
    assert stack(rows).tolist() == [[1, 2], [3, 4]]
    assert empty_batch((0, 3), torch.float16).shape == (0, 3)
