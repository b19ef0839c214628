"""A published folder of HSENet is evaluated on the twin, as are our names for the same weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from medvlp import config, evaluate
from tests.checkpoints.hsenet_files import published_clip, write_folder

pytestmark = pytest.mark.filterwarnings("ignore:::lightning")  # on runs as tiny as these
SMALL = [
    "data.source.num_train=4",
    "data.source.num_valid=6",
    "data.source.num_workers=0",
    "data.source.shape=[24,28,28]",
    "data.splits.val_fraction=0.5",
    "data.batch_size=4",
    "engine.num_workers=0",
    "evaluation.retrieval.cutoffs=[1,2]",
    "evaluation.retrieval.pools=[4]",
    "evaluation.retrieval.num_resamples=20",
    "~evaluation.volume_retrieval",
    "metric=val/retrieval/text_to_image_R@2",
    "trainer.enable_progress_bar=false",
    "model.vision.stem_stages=0",  # as published
]
EXPERIMENT = "phantom/hsenet_stage2"


def test_a_published_folder_gives_the_numbers_of_our_own_file(tmp_path: Path) -> None:
    twin = [f"paths.raw={tmp_path / 'raw'}", f"paths.cache={tmp_path / 'cache'}", *SMALL]
    tree = config.resolve(config.compose([f"experiment={EXPERIMENT}", "init=none", *twin]))
    torch.manual_seed(0)
    model = instantiate(tree["model"], _convert_="all")
    folder = write_folder(tmp_path / "released", published_clip(model))
    torch.save(model.state_dict(), tmp_path / "ours.pt")
    results: list[dict[str, Any]] = []
    for file in (folder, tmp_path / "ours.pt"):
        run = tmp_path / f"of_{file.stem}"
        options = [f"--experiment={EXPERIMENT}", f"--ckpt_path={file}", f"paths.run={run}"]
        evaluate.run(["test", *options, *twin])
        results.append(json.loads((run / "retrieval" / "results.json").read_text()))
    hashes = [result.pop("provenance")["checkpoint_hash"] for result in results]
    assert None not in hashes and hashes[0] != hashes[1]
    assert results[0] == results[1]
