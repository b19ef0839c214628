import itertools

import nibabel as nib
import numpy as np
import pytest

from medvlp.data.scan import Rescale, Scan, orientation_of, reorient


def test_orientation_agrees_with_nibabel_for_all_permutations_and_flips() -> None:
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.eye(3)[:, axes] * signs
            affine[:3, :3] += 0.1 * np.random.default_rng(0).normal(size=(3, 3))  # oblique
            assert orientation_of(affine) == "".join(reversed(nib.aff2axcodes(affine)))


def test_reorient_follows_every_voxel() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    view, axes = reorient(array, "SPL", "RIA")
    assert axes == (2, 0, 1) and view.shape == (4, 2, 3)
    # index along R falls where L rises, along I where S rises, along A where P rises
    assert view[0, 0, 0] == array[-1, -1, -1] and view[1, 0, 2] == array[-1, 0, 2]
    back, _ = reorient(view, "RIA", "SPL")
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("letters", ["SP", "SPA", "XYZ", "SPLL"])
def test_impossible_orientations(letters: str) -> None:
    with pytest.raises(ValueError, match="three letters"):
        reorient(np.zeros((1, 1, 1)), letters, "SPL")


def test_a_stated_rule_on_top_of_the_headers_is_refused() -> None:
    scan = Scan(np.zeros((1, 1, 1)), np.eye(4), (1.0, 1.0, 1.0), "SPL", Rescale(1.0, -1024.0))
    with pytest.raises(ValueError, match="only one can be right"):
        scan.restated(rescale=Rescale(1.0, -1024.0))
    assert scan.restated(spacing_mm=(3.0, 1.0, 1.0)).spacing_mm == (3.0, 1.0, 1.0)
