from dataclasses import replace

import numpy as np
import pytest

from medvlp.data.scan import orientation_of
from medvlp.phantom.grid import Grid
from medvlp.phantom.head_anatomy import paint_head, sample_head
from medvlp.phantom.head_canvas import FINDINGS, ORGANS, HeadCanvas, finding_id
from medvlp.phantom.head_lesion import sample_lesion
from medvlp.phantom.head_reports import NORMAL, write_head_report
from medvlp.phantom.head_scan import Lattice, Look, lattice, take, take_mask
from medvlp.phantom.head_study import HeadStudy, PaintedHead, paint_head_study, sample_head_study
from medvlp.phantom.head_tissues import intensity

SPACING = 4.0
QUIET = Look(noise=0.0)


def painted(kind: str, *contrasts: str, side: str = "left") -> tuple[HeadStudy, PaintedHead]:
    study = sample_head_study((3,), (5,), [kind] if kind else [], side=side)
    return study, paint_head_study(study, contrasts or ("ct",), spacing_mm=SPACING)


def middle_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    return np.argwhere(mask).mean(0) * grid.spacing_mm + grid.origin_mm


def test_organs_lie_where_they_belong() -> None:
    _, head = painted("", "ct", "t2")
    places = {
        name: middle_mm(head.organs == index, head.grid)
        for index, name in enumerate(ORGANS)
        if name != "background"
    }
    assert set(np.unique(head.organs)) == set(range(len(ORGANS)))
    assert places["eyes"][1] < -60 and places["cerebellum"][1] > 30  # front, back
    assert places["cerebellum"][0] < -20 < places["white matter"][0]
    assert places["brain stem"][0] < places["deep grey matter"][0]
    assert abs(places["ventricles"][2]) < 3
    brain = np.isin(head.organs, [ORGANS.index("grey matter"), ORGANS.index("white matter")])
    litres = brain.sum() * np.prod(head.grid.spacing_mm) / 1e6
    assert 0.6 < litres < 1.5


def test_tissues_look_as_in_ct_and_mr() -> None:
    _, head = painted("", "ct", "t1", "t2", "flair")
    ct, t1, t2, flair = head.values
    white = head.organs == ORGANS.index("white matter")
    ventricles = head.organs == ORGANS.index("ventricles")
    assert 22 < np.median(ct[white]) < 40 and 0 < np.median(ct[ventricles]) < 22
    assert ct[head.organs == ORGANS.index("skull")].max() > 800
    assert np.median(t1[white]) > 2 * np.median(t1[ventricles])
    assert np.median(t2[ventricles]) > 1.5 * np.median(t2[white])
    assert np.median(flair[ventricles]) < np.median(flair[white])


@pytest.mark.parametrize("kind", [kind for kind in FINDINGS if kind != "edema"])
def test_every_finding_is_painted_and_on_its_side(kind: str) -> None:
    study, head = painted(kind)
    mask = head.findings == finding_id(kind)
    assert mask.sum() > (3 if kind == "fracture" else 25)
    if study.lesions[0].side == "left":
        assert middle_mm(mask, head.grid)[2] > 0  # x runs to the left
    other = sample_head_study((3,), (5,), [kind], side="right")
    if other.lesions[0].side == "right":
        mirrored = paint_head_study(other, ("ct",), spacing_mm=SPACING)
        assert middle_mm(mirrored.findings == finding_id(kind), mirrored.grid)[2] < 0


@pytest.mark.parametrize(
    ("kind", "contrast", "factor"),
    [
        ("stroke", "dwi", 2.5),
        ("meningioma", "t1c", 1.3),
        ("glioma", "flair", 1.2),
        ("metastasis", "t1c", 1.25),
        ("intraparenchymal", "ct", 1.8),
        ("subdural", "flair", 1.1),
    ],
)
def test_findings_stand_out_from_white_matter(kind: str, contrast: str, factor: float) -> None:
    _, head = painted(kind, contrast)
    inside = head.values[0][head.findings == finding_id(kind)]
    assert np.median(inside) > factor * intensity("white", contrast)


def test_a_mass_pushes_the_midline_away() -> None:
    study, head = painted("epidural")
    assert study.head.shift_mm < -4  # from the left half to the right
    ventricles = head.organs == ORGANS.index("ventricles")
    straight = replace(study, head=replace(study.head, shift_mm=0.0))
    calm = paint_head_study(straight, ("ct",), spacing_mm=SPACING)
    before = middle_mm(calm.organs == ORGANS.index("ventricles"), calm.grid)[2]
    assert middle_mm(ventricles, head.grid)[2] < before - 2


def test_equal_seeds_give_equal_heads_and_every_person_differs() -> None:
    one, again = painted("glioma", "t1c")[1], painted("glioma", "t1c")[1]
    assert np.array_equal(one.values, again.values)
    heads = [sample_head(np.random.default_rng(seed)) for seed in range(20)]
    assert len({head.scale for head in heads}) == 20
    assert {head.sex for head in heads} == {"F", "M"}


def test_a_kind_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="'edema' cannot be drawn by itself"):
        sample_lesion("edema", np.random.default_rng(0))


def test_painting_at_another_spacing_gives_the_same_head() -> None:
    head = sample_head(np.random.default_rng(1))
    means = []
    for spacing, size in ((4.0, (46, 56, 46)), (3.0, (62, 75, 62))):
        canvas = HeadCanvas(Grid(size, (spacing,) * 3), ("t1",))
        paint_head(canvas, head)
        means.append(canvas.values[0].mean())
    assert abs(means[0] - means[1]) < 0.03 * means[0]


@pytest.mark.parametrize(
    ("plane", "letters"), [("axial", "SPL"), ("coronal", "PSL"), ("sagittal", "LSP")]
)
def test_scans_of_any_plane_show_a_finding_at_the_same_place(plane: str, letters: str) -> None:
    _, head = painted("intraparenchymal")
    extent = {
        "axial": (186.0, 226.0, 182.0),
        "coronal": (226.0, 186.0, 182.0),
        "sagittal": (182.0, 186.0, 226.0),
    }
    where = lattice(plane, extent[plane], (5.0, 4.0, 4.0))
    assert orientation_of(where.affine) == letters
    mask = take_mask(head, "findings", where) == finding_id("intraparenchymal")
    place = where.affine @ [*np.argwhere(mask).mean(0)[::-1], 1]
    expected = middle_mm(head.findings == finding_id("intraparenchymal"), head.grid)
    np.testing.assert_allclose(place[:3], expected[::-1] * [-1, -1, 1], atol=2.0)
    hu = take(head, "ct", where, QUIET, np.random.default_rng(0))
    assert np.median(hu[mask]) > 55


def test_oblique_and_tilted_lattices_point_at_the_same_head() -> None:
    _, head = painted("meningioma", "t1c")
    straight = lattice("axial", (186.0, 226.0, 182.0), (4.0, 4.0, 4.0))
    expected = _place(head, straight)
    for options in ({"tilt_deg": 15.0}, {"gantry_deg": -18.0}, {"flip": (True, False, True)}):
        turned = lattice("axial", (186.0, 226.0, 182.0), (4.0, 4.0, 4.0), **options)
        np.testing.assert_allclose(_place(head, turned), expected, atol=1.5)
    sheared = lattice("axial", (186.0, 226.0, 182.0), (4.0, 4.0, 4.0), gantry_deg=-18.0).affine[
        :3, :3
    ]
    cosine = sheared[:, 1] @ sheared[:, 2] / np.prod(np.linalg.norm(sheared[:, 1:], axis=0))
    assert abs(cosine) == pytest.approx(np.sin(np.deg2rad(18)), abs=1e-6)


def _place(head: PaintedHead, where: Lattice) -> np.ndarray:
    mask = take_mask(head, "findings", where) == finding_id("meningioma")
    return (where.affine @ [*np.argwhere(mask).mean(0)[::-1], 1])[:3]


def test_both_ways_of_sampling_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    _, head = painted("glioma", "flair")
    where = lattice("sagittal", (130.0, 150.0, 190.0), (5.1, 3.7, 3.3), flip=(True, False, True))
    fast = take(head, "flair", where, QUIET, np.random.default_rng(0))
    mask = take_mask(head, "organs", where)
    monkeypatch.setattr("medvlp.phantom.head_scan._upright_axes", lambda where: None)
    slow = take(head, "flair", where, QUIET, np.random.default_rng(0))
    np.testing.assert_allclose(fast, slow, atol=0.05)  # of 1000
    assert (mask != take_mask(head, "organs", where)).mean() < 1e-3


def test_stripping_leaves_the_brain_alone() -> None:
    _, head = painted("", "t1")
    where = lattice("axial", (186.0, 226.0, 182.0), (4.0, 4.0, 4.0))
    organs = take_mask(head, "organs", where)
    scan = take(head, "t1", where, Look(10.0, stripped=True), np.random.default_rng(0))
    assert (scan[organs == ORGANS.index("skull")] == 0).mean() > 0.8
    assert (scan[organs == ORGANS.index("scalp and face")] > 0).mean() < 0.01
    assert np.median(scan[organs == ORGANS.index("white matter")]) > 400


def test_reports_name_what_is_there() -> None:
    study, _ = painted("subdural")
    report = write_head_report(study, np.random.default_rng(0))
    assert report.impression.startswith("Subdural hemorrhage.")
    place, size = study.lesions[0].place, round(study.lesions[0].size_mm)
    assert place in report.findings and f"{size} mm" in report.findings
    normal = sample_head_study((3,), (5,), [])
    report = write_head_report(normal, np.random.default_rng(0))
    assert report.impression == f"{NORMAL}."
    assert "There is no midline shift." in report.findings
