"""Evaluation over several ranks: samples that only fill up a batch are dropped."""

import pytest

from tests.distributed.ranks import run_ranks
from tests.evaluation.rank_scores import NUM_SAMPLES, find


def test_two_ranks_find_what_one_finds():
    alone = find(0, 1)
    ranks = run_ranks(find, 2, 2)
    for kind, expected in alone.items():
        assert expected["duplicates"] == 0 and expected["samples"] == NUM_SAMPLES
        for found in ranks:
            assert found[kind]["duplicates"] == 1  # the last five were filled up to six
            same = {
                name: value
                for name, value in expected.items()
                # the published score depends on the size of batches
                if name not in ("duplicates", "pairs_clip_val_score")
            }
            for name, value in same.items():
                assert found[kind][name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
