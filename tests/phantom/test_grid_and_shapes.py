import nibabel as nib
import numpy as np
import pytest

from medvlp.phantom.grid import Grid
from medvlp.phantom.shapes import ellipsoid, filaments, metaballs, tube

GRID = Grid((40, 40, 40), (3.0, 2.5, 2.5))


def volume_mm3(patch) -> float:
    return float(patch.alpha.sum()) * 3.0 * 2.5 * 2.5


def test_the_affine_says_left_posterior_superior():
    assert nib.orientations.aff2axcodes(GRID.affine()) == ("L", "P", "S")


def test_the_affine_takes_the_first_voxel_to_its_millimetres():
    grid = Grid((11, 21, 31), (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    # x: 7 - 15 = -8 towards the left is +8 to the right; y: 6 - 10 = -4 to the back is +4 in front
    np.testing.assert_allclose(grid.affine() @ [0, 0, 0, 1], [8, 4, -5, 1])


def test_a_box_outside_the_lattice_is_empty():
    box = GRID.box((500.0, 500.0, 500.0), (510.0, 510.0, 510.0))
    assert GRID.cut(box)[0].size == 0


@pytest.mark.parametrize("radius", [10.0, 20.0])
def test_an_ellipsoid_has_its_volume(radius):
    patch = ellipsoid(GRID, (3.0, -2.0, 1.0), (radius, radius, radius))
    assert volume_mm3(patch) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.04)


def test_a_tube_has_its_volume():
    patch = tube(GRID, (-20.0, 0.0, 0.0), (20.0, 0.0, 0.0), 8.0)
    assert volume_mm3(patch) == pytest.approx(np.pi * 64 * 40 + 4 / 3 * np.pi * 512, rel=0.05)


def test_filaments_keep_the_volume_they_are_given():
    points = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    patch = filaments(GRID, points, np.full(50, 2.0))
    assert volume_mm3(patch) == pytest.approx(100.0, rel=1e-3)


def test_filaments_outside_the_lattice_leave_nothing():
    patch = filaments(GRID, np.full((3, 3), 900.0), np.ones(3))
    assert patch.alpha.size == 0


def test_a_single_metaball_is_about_a_ball():
    patch = metaballs(GRID, np.zeros((1, 3)), np.asarray([15.0]))
    assert volume_mm3(patch) == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.1)
