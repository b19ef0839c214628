from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.models.hsenet_vlm import TowerTokens
from medvlp.optim.schedules import WarmupCosine
from medvlp.systems.hsenet_vlm import HSENetVLMSystem
from medvlp.systems.tower_memory import TowerMemory
from tests.models.tiny_vlm import make_tokenizer, make_vlm
from tests.systems.test_hsenet_vlm import Exact, make_batch, validate
from tests.systems.tiny import fit, make_trainer


class Towers:
    """Say the mean of each volume and of its slices, and count the volumes."""

    def __init__(self) -> None:
        self.looked = 0

    def __call__(self, image: Tensor, num_scans: Tensor, features: Tensor | None) -> TowerTokens:
        self.looked += len(image)
        plain = image.mean((1, 2, 3, 4))[:, None, None]
        return TowerTokens(plain, plain if features is None else features.mean(1, keepdim=True))


def _means(image: Tensor) -> Tensor:
    return image.mean((1, 2, 3, 4))


def test_each_volume_is_looked_at_once_as_long_as_there_is_room() -> None:
    towers, memory = Towers(), TowerMemory(3)
    image, features = torch.randn(4, 1, 2, 2, 2), torch.randn(4, 3, 6)
    for rows in ([0, 1], [1, 2, 0], [3, 0], [3]):
        ones = torch.ones(len(rows), dtype=torch.int64)
        seen = memory.look(towers, image[rows], ones, features[rows])
        assert torch.equal(seen.plain[:, 0, 0], image[rows].mean((1, 2, 3, 4)))
        assert torch.equal(seen.guided[:, 0], features[rows].mean(1))
    assert towers.looked == 5 and len(memory) == 3  # the fourth volume twice


def test_a_folder_remembers_for_later_runs_with_the_same_towers(tmp_path: Path) -> None:
    towers, image, ones = Towers(), torch.randn(2, 1, 2, 2, 2), torch.ones(2, dtype=torch.int64)
    runs = [("a", False, 2), ("a", False, 2), ("b", False, 4), ("a", True, 6)]
    for weights, half, looked in runs:
        memory = TowerMemory(9, folder=str(tmp_path), half=half)
        first, again = (
            memory.look(towers, image, ones, None, weights=lambda name=weights: name)
            for _ in range(2)
        )
        assert towers.looked == looked and torch.equal(first.guided[:, 0, 0], _means(image))
        atol = 1e-3 if half else 0.0
        torch.testing.assert_close(again.plain[:, 0, 0], _means(image), rtol=0, atol=atol)
    with pytest.raises(ValueError, match="nothing tells the weights of the towers"):
        TowerMemory(9, folder=str(tmp_path)).look(towers, image, ones, None)


def test_other_slices_are_another_volume() -> None:
    towers, memory = Towers(), TowerMemory(9)
    image, one = torch.randn(1, 1, 2, 2, 2), torch.ones(1, dtype=torch.int64)
    for features in (None, torch.zeros(1, 3, 6), torch.ones(1, 3, 6)):
        memory.look(towers, image, one, features)
    assert towers.looked == len(memory) == 3


def make_system(tokenizer: Any, memory: TowerMemory | None, **parts: Any) -> HSENetVLMSystem:
    torch.manual_seed(0)
    return HSENetVLMSystem(
        make_vlm(**parts),
        tokenizer,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        schedule=WarmupCosine(2),
        evaluations={"exact": Exact()},
        max_new_tokens=8,
        memory=memory,
    )


def test_training_after_an_evaluation_is_as_without_memory(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path)
    batch, weights = make_batch(tokenizer), []
    for memory in (None, TowerMemory(9), TowerMemory(9, folder=str(tmp_path / "towers"))):
        system = make_system(tokenizer, memory)
        validate(system, batch)  # in inference mode
        torch.manual_seed(0)  # dropout of the packers
        fit(make_trainer(max_steps=3), system, [batch])
        weights.append(system.model.language.state_dict())
        assert memory is None or len(memory) == 2
        assert not system.model.guided_vision.training
    for remembered in weights[1:]:
        torch.testing.assert_close(remembered, weights[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("parts", [{"freeze_vision": False}, {"compat": "published"}])
def test_towers_that_change_are_not_remembered(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set system\.memory=null"):
        make_system(make_tokenizer(tmp_path), TowerMemory(9), **parts)
    with pytest.raises(ValueError, match="capacity is 0; remember one volume at least"):
        TowerMemory(0)
