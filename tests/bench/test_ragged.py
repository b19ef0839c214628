import json

import pytest
import torch

from medvlp.bench.__main__ import main
from medvlp.bench.options import RAGGED_SCANS
from medvlp.bench.padded_tower import PaddedTower
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import MeanMaxPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.vision.hierarchical_vit import HierarchicalViT

NUM_SCANS = torch.tensor([3, 1, 2])


def tower(levels, **options):
    torch.manual_seed(0)
    patch_embed = PatchEmbed3D(1, (2, 2, 2), 12)
    return HierarchicalViT(patch_embed, (2, 2, 2), levels=levels, num_heads=2, **options).eval()


def padded(image):
    studies = torch.nn.utils.rnn.pad_sequence(
        list(image.split(NUM_SCANS.tolist())), batch_first=True, padding_value=7.0
    )
    return studies, torch.arange(3)[None] < NUM_SCANS[:, None]


@pytest.mark.parametrize(
    "levels",
    [
        ("slice", "scan", "study"),
        ("scan", "study", "scan", "study"),
        ("study", "slice", "study"),
        ("slice", "study", "scan", "slice"),
    ],
)
@torch.no_grad()
def test_the_padded_baseline_computes_what_our_tower_does(levels):
    ours = tower(levels, scan_positions=ScanPositions(4))
    image = torch.randn(6, 1, 4, 4, 4)
    torch.testing.assert_close(
        PaddedTower(ours)(*padded(image)), ours(image, NUM_SCANS), rtol=0, atol=1e-6
    )


def test_it_refuses_a_pooling_that_it_cannot_mask():
    with pytest.raises(ValueError, match="MeanMaxPooling over 1 prefix"):
        PaddedTower(tower(["scan"], pooling=MeanMaxPooling()))


def test_the_default_batch_has_one_to_eight_scans_at_45_percent_fill():
    assert min(RAGGED_SCANS) == 1 and max(RAGGED_SCANS) == 8
    assert sum(RAGGED_SCANS) / (8 * len(RAGGED_SCANS)) == pytest.approx(0.45, abs=0.005)


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_json(tmp_path):
    path = tmp_path / "ragged.json"
    model = "hlip_vit_base_multiscan_h2_token588"
    options = ["--scans", "1", "2", "--depth", "3", "--repeats", "1", "--json", str(path)]
    main(["ragged", "--models", model, *options])
    rows = json.loads(path.read_text())["rows"]
    assert [row["way"] for row in rows] == ["padded", "packed", "one by one"]
    assert rows[0]["GFLOP"] > rows[1]["GFLOP"] == pytest.approx(rows[2]["GFLOP"])


def test_features_that_differ_stop_the_benchmark(monkeypatch):
    from medvlp.bench import ragged

    setting = ragged.Setting("any", (1, 2), 0, "sdpa", "fp32", "cpu", 1)
    features = {"padded": 0.0, "packed": 2e-5, "one by one": 0.0}
    works = {way: lambda value=value: torch.full((2, 1), value) for way, value in features.items()}
    monkeypatch.setattr(ragged, "ways", lambda _: works)
    with pytest.raises(RuntimeError, match="do not compute the same"):
        ragged.compare(setting)
