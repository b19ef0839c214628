import numpy as np
import pytest

from medvlp.data.mixing import Mixture
from medvlp.data.packed_rows import PackedRows


def test_without_weights_an_epoch_shows_everything_once() -> None:
    first, second = (Mixture().order([5, 7], np.random.default_rng(e)) for e in (0, 1))
    assert sorted(first) == list(range(12)) and first.tolist() != second.tolist()


def test_weights_decide_the_shares_and_small_sets_repeat_evenly() -> None:
    order = Mixture([3.0, 1.0, 0.0], epoch_size=8000).order(
        [1000, 10, 500], np.random.default_rng(0)
    )
    assert len(order) == 8000
    shares = np.array([(order < 1000).mean(), ((order >= 1000) & (order < 1010)).mean()])
    assert np.abs(shares - [0.75, 0.25]).max() < 0.02 and (order < 1010).all()
    counts = np.bincount(order[order >= 1000] - 1000)
    assert counts.max() - counts.min() <= 1  # whole permutations, one after the other


def test_impossible_mixtures() -> None:
    with pytest.raises(ValueError, match="one above 0"):
        Mixture([0.0, 0.0])
    with pytest.raises(ValueError, match="needs weights"):
        Mixture(epoch_size=5)
    with pytest.raises(ValueError, match="2 weights for 1"):
        Mixture([1.0, 1.0]).order([3], np.random.default_rng(0))


def test_packed_rows() -> None:
    rows = [{"a": "ü"}, [], {"b": {"c": 1}}]
    packed = PackedRows(rows)
    assert list(packed) == rows and len(packed) == 3
    with pytest.raises(IndexError, match="row 3 of 3"):
        packed[3]
