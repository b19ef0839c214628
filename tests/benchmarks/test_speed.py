"""Benchmarks, not tests: `python -m pytest tests/benchmarks -m slow` prints medians."""

import pytest
import torch

from medvlp.bench.trunk import build_tower, forward_of
from medvlp.evaluation.classification import classification_results
from medvlp.phantom.grid import Grid
from medvlp.phantom.study import Kernel, paint_study, sample_study
from tests.evaluation.conftest import make_protocol, make_table

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_intervals_of_500_studies_18_findings_1000_resamples(benchmark):
    table, protocol = make_table(500), make_protocol(num_resamples=1000)
    results = benchmark.pedantic(classification_results, (table, protocol), rounds=3)
    assert len(results.findings) == 18


def test_phantom_96(benchmark):
    grid = Grid((96, 96, 96), (3.75, 3.75, 3.75))

    def paint():
        study = sample_study((0, 1), (0, 1))
        return paint_study(study, grid, Kernel(noise_hu=20.0, blur=0.8), (0, 1, 1))

    assert benchmark(paint).hu.shape == (96, 96, 96)


@pytest.mark.parametrize("num_scans", [1, 4])
def test_trunk_token588(benchmark, num_scans):
    tower = build_tower("hlip_vit_base_multiscan_h2_token588")
    forward = forward_of(tower, num_scans, torch.device("cpu"))
    assert benchmark.pedantic(forward, rounds=2, warmup_rounds=1).shape == (1, 768)
