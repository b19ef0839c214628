"""Images go through the systems as studies of one scan each."""

import warnings
from pathlib import Path

import pytest
import torch

from medvlp.losses.contrastive import ClipLoss
from tests.checkpoints.synthetic import TEXT, make_unimed_clip
from tests.data.image_files import module_of, write_set
from tests.systems.tiny import MeanScore, Record, ignore_advice, make_system, make_trainer


@pytest.mark.parametrize("chunks", [1, 2])
def test_two_towers_learn_from_images_and_are_evaluated(tmp_path: Path, chunks: int) -> None:
    images = write_set(tmp_path, "a", 6)
    data = module_of(tmp_path, [images], val=[images])
    batch = next(iter(data.train_dataloader()))
    assert batch["study_id"] == batch["sample_id"] and batch["num_scans"].tolist() == [1] * 4
    text = TEXT | {"vocab_size": 1024, "max_position_embeddings": 16}
    model = make_unimed_clip(image_size=8, patch_size=4, text=text, forward_chunks=chunks)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    record = Record()
    system = make_system(model, loss=ClipLoss(), evaluations={"demo": MeanScore()})
    with warnings.catch_warnings():
        ignore_advice()
        make_trainer(callbacks=[record]).fit(system, datamodule=data)
    assert len(record.losses) == 1
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {"vision.cls_token", "vision.pos_embed", "text_projection.fc1.weight"} <= moved
    assert system.results["demo"].metrics()["num_samples"] == 6
