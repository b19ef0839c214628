"""The experiments on organs go the whole way, and their results compare."""

import json

import pytest

from tests.smoke.test_embedded_default import run_verb

SMALL = [
    "data.source.source.num_train=16",
    "data.source.source.num_test=6",
    "data.source.source.num_workers=0",
    "data.source.source.shape=[24,28,28]",
    "data.source.source.prevalence=0.5",
    "engine.num_workers=0",
    "data.batch_size=6",
    "evaluation.phantom_fvlm.num_resamples=20",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
]


@pytest.mark.slow
def test_from_nothing_to_a_comparison(tmp_path):
    runs = []
    for name in ("fvlm_ctrate", "fvlm_ctrate_global"):
        run_verb("train", f"experiment=phantom/{name}", *SMALL, folder=tmp_path)
        (run,) = (tmp_path / "outputs/phantom" / name).glob("20*")
        results = json.loads((run / "phantom_fvlm/results.json").read_text())
        assert len(results["findings"]) + len(results["skipped"]) == 16
        runs.append(str(run))
    told = run_verb("compare", *runs, "--resamples", "20", folder=tmp_path)
    assert "A - B [95 %]" in told
    tree = json.loads((tmp_path / "comparison/comparison.json").read_text())
    assert tree["first"]["recipe_hash"] == tree["second"]["recipe_hash"]
