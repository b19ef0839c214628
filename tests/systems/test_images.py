"""Images go through the systems as studies of one scan each."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medvlp.models.two_tower import TwoTower
from tests.data.test_image_datamodule import module_of, write_set
from tests.systems.tiny import MeanScore, Record, ignore_advice, make_system, make_trainer

WIDTH = 6


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3 * 8 * 8, WIDTH)

    def forward(self, image: Tensor, num_scans: Tensor) -> Tensor:
        assert num_scans.tolist() == [1] * len(image) and image.dtype == torch.float32
        return self.stem(image.flatten(1))


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(1024, WIDTH)

    def forward(self, tokens) -> Tensor:
        return self.embed(tokens.input_ids)


def make_model(forward_chunks: int) -> TwoTower:
    torch.manual_seed(0)
    return TwoTower(
        Vision(),
        Text(),
        image_projection=nn.Linear(WIDTH, 4, bias=False),
        text_projection=nn.Linear(WIDTH, 4, bias=False),
        forward_chunks=forward_chunks,
    )


@pytest.mark.parametrize("chunks", [1, 2])
def test_two_towers_learn_from_images_and_are_evaluated(tmp_path: Path, chunks: int) -> None:
    images = write_set(tmp_path, "a", 6)
    data = module_of(tmp_path, [images], val=[images])
    batch = next(iter(data.train_dataloader()))
    assert batch["study_id"] == batch["sample_id"] and batch["num_scans"].tolist() == [1] * 4
    record, model = Record(), make_model(chunks)
    before = model.vision.stem.weight.clone()
    system = make_system(model, evaluations={"demo": MeanScore()})
    with warnings.catch_warnings():
        ignore_advice()
        make_trainer(callbacks=[record]).fit(system, datamodule=data)
    assert len(record.losses) == 1 and not torch.equal(before, model.vision.stem.weight)
    assert system.results["demo"].metrics()["num_samples"] == 6
