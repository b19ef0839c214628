import pickle

import pytest
import torch

from medvlp.phantom.grey_shares import GreyShares


def test_features_are_shares_of_bands_by_cell() -> None:
    slices = torch.zeros(2, 3, 4, 4)
    slices[1, :, 2:, 2:] = 0.9
    slices[1, :, 3, 3] = 0.5
    shares = GreyShares(2, [0.2, 0.5])
    found = shares(slices)
    assert found.shape == (2, shares.width) == (2, 12)
    expected = torch.tensor([[1.0, 0, 0]] * 7 + [[0, 0, 1.0]]).reshape(2, 12)
    assert torch.equal(found, (50 * expected).log1p())


def test_it_travels_and_says_what_it_is() -> None:
    shares = GreyShares(3, [0.5])
    again = pickle.loads(pickle.dumps(shares))
    assert again.describe() == shares.describe()
    assert GreyShares(3, [0.6]).describe() != shares.describe()


@pytest.mark.parametrize(("cells", "edges"), [(0, [0.5]), (2, []), (2, [0.5, 0.4])])
def test_what_makes_no_bands_is_refused(cells: int, edges: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one cell and rising numbers"):
        GreyShares(cells, edges)
