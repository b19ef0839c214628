import pytest
import torch

from medvlp.bench import volume
from medvlp.bench.volume import CLASS, HALF, OURS, PLAIN, build_tower, inputs_of, measure
from medvlp.config import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["hsenet_tiny_stage1_phantom", "hsenet_tiny_stage2_phantom"])
def test_all_ways_agree_and_are_timed(name):
    tower = build_tower(name)
    for parameter in tower.parameters():  # else the class token is zero, and the scores alike
        torch.nn.init.normal_(parameter, std=0.2)
    rows = measure(tower, inputs_of(tower), 1, CPU)
    assert [row["way"] for row in rows] == [PLAIN, OURS, CLASS, HALF]
    assert all(float(row["largest difference"]) <= volume.TOLERANCE for row in rows[:-1])
    assert float(rows[-1]["largest difference"]) > 0


def test_ways_that_differ_stop_the_benchmark(monkeypatch):
    monkeypatch.setattr(volume, "plain_tokens", lambda tower, *inputs: torch.zeros(1, 145, 64))
    tower = build_tower("hsenet_tiny_stage1_phantom")
    with pytest.raises(RuntimeError, match="do not compute the same"):
        measure(tower, inputs_of(tower), 1, CPU)


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="'unimed_clip_vit_b16' has no image tower of HSENet"):
        build_tower("unimed_clip_vit_b16")
