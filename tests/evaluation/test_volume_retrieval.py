import numpy as np
import pytest
import torch

from medvlp.evaluation.retrieval_metrics import pools_of
from medvlp.evaluation.volume_retrieval import findings_overlap
from medvlp.evaluation.volume_retrieval_task import VolumeRetrieval

# 0 and 1 look alike and share one of two findings; 3 has none and cannot be found
EMBEDDINGS = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.0, 1.0]])
LABELS = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)


def test_overlap_by_hand():
    clean = findings_overlap(EMBEDDINGS, LABELS, [1, 2])
    assert clean[:, 0].tolist() == [0.5, 0.5, 0.5, 0]
    assert clean[0, 1] == pytest.approx((0.5 + 0) / 2)
    among_itself = findings_overlap(EMBEDDINGS, LABELS, [1], exclude_self=False)
    assert among_itself[[0, 2], 0].tolist() == [1, 1]
    with pytest.raises(ValueError, match="largest cutoff is 3"):
        findings_overlap(EMBEDDINGS, LABELS, [3])


def test_the_evaluation_gives_both():
    measure = VolumeRetrieval(["a", "b"], cutoffs=[1, 2], num_resamples=10)
    ids = [f"s{k}" for k in range(5)]
    labels = torch.tensor([*LABELS.astype(int).tolist(), [-1, 1]])
    batch = {"sample_id": ids, "patient_id": ids, "recipe_hash": "r", "labels": labels}
    measure.update(torch.from_numpy(np.vstack([EMBEDDINGS, [[1, 0]]])).float(), batch)
    results = measure.compute(measure.rows())
    metrics = results.metrics()
    assert results.left_out == {"with an unknown label": 1}
    assert metrics["clean_top_1"] == pytest.approx(0.375)
    means = metrics["published_top_1"], metrics["published_top_2"]
    assert metrics["upstream_cumulative_top_2"] == pytest.approx(sum(means) / 2)
    with pytest.raises(ValueError, match="names 1"):
        VolumeRetrieval(["a"]).update(torch.zeros(5, 2), batch)


def test_pools_have_one_size_and_share_nothing():
    pools = pools_of(10, 3, seed=1)
    assert len(np.unique(np.concatenate(pools))) == 9
