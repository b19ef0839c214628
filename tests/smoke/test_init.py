"""What a run starts from: a 2D model, published weights, or nothing; and weights to evaluate."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medvlp import config, evaluate
from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.files import open_weights
from medvlp.checkpoints.hlip import TWO_TOWER
from medvlp.checkpoints.mae import inflate_mae
from medvlp.phantom.ct_rate import write_ct_rate_twin
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.train import train
from medvlp.user_errors import one_line_errors

# Lightning's remarks on runs as tiny as these
pytestmark = pytest.mark.filterwarnings("ignore:::lightning")
WIDTH = 16
MODEL = [
    "model.vision.patch_embed._target_=medvlp.layers.patch_embed.PatchEmbed3D",
    "~model.vision.patch_embed.num_stages",
    "~model.vision.patch_embed.num_groups",
    "model.vision.patch_embed.patch_size=[16,16,16]",
    f"model.vision.patch_embed.embed_dim={WIDTH}",
    "model.vision.levels=[slice,study]",
    f"model.image_projection.in_features={2 * WIDTH}",
]
TINY = [
    "data=ct_rate",
    "data/recipe=phantom_chest_ct",
    "engine.num_workers=0",
    "data.batch_size=2",
    "data.num_workers=0",
    "data.splits.val_fraction=0.3",
    "evaluation.phantom_ct_rate.num_resamples=20",
    "~evaluation.phantom_ct_rate_unseen_wording",
    "trainer.enable_progress_bar=false",
    *MODEL,
]
STILL = ["optim.lr=0.0", "test=false"]  # a run that moves no weight shows what it started from


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("raw") / "twin"
    folder = write_ct_rate_twin(root, TwinParameters(12, 6, shape=(32, 32, 32)))
    return [f"paths.raw={folder}", f"paths.cache={folder / 'cache'}", *TINY]


@pytest.fixture(scope="module")
def mae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 2D weights that fit the tiny tower."""
    from tests.checkpoints.synthetic import make_vit

    path = tmp_path_factory.mktemp("mae") / "mae.pt"
    torch.save({"model": make_vit(WIDTH, depth=2, patch=16, positions=5)}, path)
    return path


def started(run: Path) -> dict[str, torch.Tensor]:
    return open_weights(run / "checkpoints" / "last.ckpt").tensors


def test_a_run_starts_from_a_2d_model_and_a_resumed_one_does_not_need_it(
    twin: list[str], mae: Path, tmp_path: Path
) -> None:
    init = tmp_path / "mae.pt"
    init.write_bytes(mae.read_bytes())
    options = [*twin, *STILL, f"paths.run={tmp_path / 'run'}", "init=mae", f"init.path={init}"]
    train(config.compose([*options, "trainer.max_steps=1"]))
    weights = started(tmp_path / "run")
    grid = weights["vision.pos_embed"].shape[1:4]
    expected = inflate_mae(torch.load(mae), (16, 16, 16), (grid[0], grid[1], grid[2]))
    assert all(torch.equal(weights[f"vision.{name}"], t) for name, t in expected.items())
    init.unlink()
    resumed = f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}"
    train(config.compose([*options, resumed, "trainer.max_steps=2"]))
    message = r"medvlp: no weight file at .*mae\.pt to start from"
    with pytest.raises(SystemExit, match=message), one_line_errors():
        train(config.compose([*options, "trainer.max_steps=1"]))


def test_published_weights_are_evaluated_and_are_a_start(twin: list[str], tmp_path: Path) -> None:
    train(config.compose([*twin, f"paths.run={tmp_path / 'a'}", "trainer.max_steps=1"]))
    ours = tmp_path / "a" / "checkpoints" / "last.ckpt"
    weights = to_published(open_weights(ours).tensors, TWO_TOWER)
    file = tmp_path / "published.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{n}": t for n, t in weights.items()}}, file)
    for name, path in (("of_ours", ours), ("of_published", file)):
        folder = f"paths.run={tmp_path / name}"
        experiment = "--experiment=phantom/hlip_ctrate"
        evaluate.run(["test", experiment, f"--ckpt_path={path}", *twin, folder])
    tables = [
        json.loads((tmp_path / name / "phantom_ct_rate" / "results.json").read_text())
        for name in ("of_ours", "of_published")
    ]
    hashes = [table["provenance"].pop("checkpoint_hash") for table in tables]
    assert tables[0] == tables[1] and None not in hashes and hashes[0] != hashes[1]

    start = [*twin, *STILL, "init=published", f"init.path={file}", "trainer.max_steps=1"]
    train(config.compose([*start, f"paths.run={tmp_path / 'b'}"]))
    again, before = started(tmp_path / "b"), started(tmp_path / "a")
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())


def test_a_start_without_a_path_is_one_line() -> None:
    command = [sys.executable, "-m", "medvlp.train", "init=mae"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1 and len(answer.stderr.strip().splitlines()) == 1
    assert "mandatory values are missing: init.path" in answer.stderr
