from dataclasses import replace

import numpy as np
import pytest

from medvlp.phantom.canvas import Canvas, organ_id
from medvlp.phantom.finding import LABELS, finding_id
from medvlp.phantom.findings import KINDS, LARGE_FINDINGS
from medvlp.phantom.grid import Grid
from medvlp.phantom.organs import paint_thorax
from medvlp.phantom.study import Kernel, paint_study, sample_study
from medvlp.phantom.thorax import PARTS, sample_thorax

GRID = Grid((64, 64, 64), (4.8, 5.8, 5.8), (-12.0, 0.0, 0.0))
NO_GRAIN = Kernel(noise_hu=0.0, blur=0.0)


def paint(study, kernel=NO_GRAIN, grid=GRID):
    return paint_study(study, grid, kernel, (1,))


def center(mask, grid=GRID):
    """Middle of a mask in world millimetres (RAS)."""
    index = np.argwhere(mask).mean(0)[::-1]
    return (grid.affine() @ [*index, 1])[:3]


@pytest.fixture(scope="module")
def healthy():
    return paint(sample_study((1,), (1,), names=frozenset()))


def test_organs_lie_on_their_side_of_the_world(healthy):
    where = {
        name: center(healthy.organs == organ_id(name)) for name in ("heart", "liver", "spleen")
    }
    right_lung = center(healthy.organs == organ_id("right upper lobe"))
    assert where["heart"][0] < 0 < where["liver"][0]  # RAS: the patient's right is positive
    assert where["spleen"][0] < 0 < right_lung[0]
    assert center(healthy.organs == organ_id("spine"))[1] < where["heart"][1]
    assert where["liver"][2] < where["heart"][2] < right_lung[2]


@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [
        ("right upper lobe", -900, -750),
        ("left lower lobe", -900, -700),
        ("liver", 45, 70),
        ("spine", 60, 260),
        ("heart", -20, 190),
    ],
)
def test_organs_have_their_density(healthy, organ, low, high):
    assert low < healthy.hu[healthy.organs == organ_id(organ)].mean() < high


def test_lungs_have_a_plausible_volume(healthy):
    lobes = [organ_id(f"{side} lobe") for side in ("right upper", "right middle", "right lower")]
    lobes += [organ_id("left upper lobe"), organ_id("left lower lobe")]
    litres = np.isin(healthy.organs, lobes).sum() * np.prod(GRID.spacing_mm) / 1e6
    assert 2.5 < litres < 7


def test_a_healthy_study_has_no_finding(healthy):
    assert not healthy.findings.any()


def test_all_eighteen_findings_exist_once():
    assert sorted(kind.name for kind in KINDS) == sorted(LABELS)
    assert set(LARGE_FINDINGS) == {
        "Cardiomegaly",
        "Pericardial effusion",
        "Pleural effusion",
        "Mosaic attenuation pattern",
        "Interlobular septal thickening",
    }


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_finding_changes_the_volume_where_its_mask_is(name, seed):
    study = sample_study((seed,), (seed, 5), names=frozenset({name}))
    painted = paint(study, grid=Grid((80, 80, 80), (3.9, 4.6, 4.6), (-12.0, 0.0, 0.0)))
    mask = painted.findings == finding_id(name)
    assert mask.sum() >= 3
    assert set(np.unique(painted.findings)) == {0, finding_id(name)}
    healthy = paint(
        sample_study((seed,), (seed, 5), names=frozenset()),
        grid=Grid((80, 80, 80), (3.9, 4.6, 4.6), (-12.0, 0.0, 0.0)),
    )
    changed = np.abs(painted.hu - healthy.hu)
    inside = changed[mask].mean()
    assert inside > 5 * changed[~mask].mean()
    assert inside > 10


@pytest.mark.parametrize("name", LARGE_FINDINGS)
def test_large_findings_cover_several_tokens(name):
    # a token of the embedded model is 8 voxels of 6.5 to 7.5 mm wide: about 150 cm^3
    study = sample_study((3,), (3, 5), names=frozenset({name}))
    marked = (paint(study).findings > 0).sum() * np.prod(GRID.spacing_mm) / 1e3
    assert marked > 150


def test_findings_lie_on_the_side_they_say():
    for seed in range(6):
        for name in ("Consolidation", "Lung nodule", "Pleural effusion", "Atelectasis"):
            for side, sign in (("left", -1), ("right", 1)):
                study = sample_study((seed,), (seed,), names=frozenset({name}), side=side)
                assert study.findings[0].side == side
                mask = paint(study).findings > 0
                assert mask.any()
                assert center(mask)[0] * sign > 10


def test_twins_differ_in_side_only():
    names = frozenset({"Consolidation"})
    left, right = (sample_study((4,), (4,), names=names, side=s) for s in ("left", "right"))
    assert left.thorax == right.thorax
    a, b = left.findings[0], right.findings[0]
    np.testing.assert_array_equal(a.radii, b.radii)
    assert a.place.replace("left", "") == b.place.replace("right", "").replace("middle", "upper")
    # the middle of each lies as high and as deep as that of the other, on the other side
    np.testing.assert_allclose(a.points[0, :2], b.points[0, :2])
    assert a.points[0, 2] > 0 > b.points[0, 2]


def test_the_same_seed_paints_the_same_bytes():
    first, second = (sample_study((2,), (2,)) for _ in range(2))
    kernel = Kernel(noise_hu=12.0, blur=0.8)
    np.testing.assert_array_equal(paint(first, kernel).hu, paint(second, kernel).hu)


def test_reconstructions_show_the_same_anatomy_on_other_lattices():
    study = sample_study((5,), (5,), names=frozenset({"Mosaic attenuation pattern"}))
    fine = paint(study, grid=Grid((62, 62, 62), (5.0, 6.0, 6.0)))
    coarse = paint(study, grid=Grid((31, 31, 31), (10.0, 12.0, 12.0)))
    pooled = fine.hu.reshape(31, 2, 31, 2, 31, 2).mean((1, 3, 5))
    assert np.corrcoef(pooled.ravel(), coarse.hu.ravel())[0, 1] > 0.98


def test_prevalence_is_what_was_asked_for():
    share = np.mean(
        [len(sample_study((i,), (i,), prevalence=0.3).findings) / len(LABELS) for i in range(300)]
    )
    assert 0.26 < share < 0.34


def test_grain_has_the_spread_of_its_kernel():
    study = sample_study((6,), (6,), names=frozenset())
    for blur in (0.0, 0.8):
        quiet = paint(study, Kernel(noise_hu=0.0, blur=blur))
        noisy = paint(study, Kernel(noise_hu=20.0, blur=blur))
        outside = quiet.organs == 0
        assert (noisy.hu - quiet.hu)[outside].std() == pytest.approx(20, rel=0.1)


def test_points_of_a_lobe_are_painted_as_that_lobe():
    rng = np.random.default_rng(0)
    thorax = replace(sample_thorax(rng), scale=(1.0, 1.0, 1.0))
    canvas = Canvas(GRID)
    paint_thorax(canvas, thorax)
    hits = 0
    for _ in range(30):
        for side in ("left", "right"):
            for part in PARTS:
                z, y, x = thorax.lobe_point(side, part, rng)
                index = np.linalg.inv(GRID.affine()) @ [-x, -y, z, 1]
                i, j, k = np.rint(index[:3]).astype(int)
                hits += canvas.lung[k, j, i] > 0.2
    assert hits > 0.93 * 180
