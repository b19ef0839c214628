"""Findings that spread through the lungs and the pleural space."""

import numpy as np
from jaxtyping import Float

from medvlp.phantom.canvas import Canvas
from medvlp.phantom.finding import Finding, Request, finding_id, grade
from medvlp.phantom.grid import Box, Grid
from medvlp.phantom.shapes import Patch, filaments, ramp
from medvlp.phantom.texture import smooth_field
from medvlp.phantom.thorax import Thorax
from medvlp.phantom.vessels import Branches, fill_points, lung_tree

_SEPTAL_CELL_MM = 24.0
_MOSAIC_PATCH_MM = 52.0
_AIR_TRAPPING_HU = 60.0
_BRONCHUS_OFFSET_MM = np.asarray([3.0, 5.0, 0.0])
_BRONCHUS_RADII_MM = (6.5, 5.4, 4.4, 3.4)


def _lung_rows(grid: Grid, thorax: Thorax) -> Box:
    return grid.box((-135.0, -999.0, -999.0), (thorax.apex_z + 5.0, 999.0, 999.0))


def sample_emphysema(request: Request) -> Finding:
    """Draw destroyed tissue, mostly in the upper lobes."""
    extent = request.uniform(0.0, 1.0)
    return Finding(
        request.name,
        side="bilateral",
        place="upper lobes",
        degree=grade(extent, 0.0, 1.0),
        size_mm=60 + 60 * extent,
        amount=extent,
        seed=request.seed(),
    )


def paint_emphysema(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint holes of nearly air."""
    box = _lung_rows(canvas.grid, thorax)
    field = smooth_field(canvas.grid, finding.seed, 15.0)[box]
    z, _, _ = canvas.grid.cut(box)
    field += (np.clip((z - 10) / 50, -3, 1) - 0.55 + 0.6 * finding.amount).astype(np.float32)
    canvas.lesion(Patch(box, np.clip(field / 0.5, 0, 1)), -985.0, finding_id(finding.name))


def sample_mosaic(request: Request) -> Finding:
    """Draw patches of denser and of darker lung."""
    contrast = request.uniform(210.0, 280.0)
    return Finding(
        request.name,
        side="bilateral",
        place="both lungs",
        degree=grade(contrast, 210.0, 280.0),
        size_mm=_MOSAIC_PATCH_MM,
        amount=contrast,
        seed=request.seed(),
    )


def paint_mosaic(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Lighten some patches of the lung and darken the rest."""
    box = _lung_rows(canvas.grid, thorax)
    patches = smooth_field(canvas.grid, finding.seed, _MOSAIC_PATCH_MM)[box]
    light = np.clip(patches / 0.3 + 0.5, 0, 1)
    canvas.findings[box][light * canvas.lung[box] > 0.5] = finding_id(finding.name)
    light *= np.float32(finding.amount + _AIR_TRAPPING_HU)
    light -= np.float32(_AIR_TRAPPING_HU)
    light *= canvas.lung[box]
    canvas.hu[box] += light


def sample_septal(request: Request) -> Finding:
    """Draw thickened walls between the lobules."""
    thickness = request.uniform(2.6, 4.2)
    return Finding(
        request.name,
        side="bilateral",
        place="both lungs",
        degree=grade(thickness, 2.6, 4.2),
        size_mm=thickness,
        amount=thickness,
        points=request.rng.uniform(0, _SEPTAL_CELL_MM, (1, 3)),
        seed=request.seed(),
    )


def paint_septal(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint a bent lattice of walls."""
    box = _lung_rows(canvas.grid, thorax)
    edge = canvas.grid.edge_mm
    axes = canvas.grid.cut(box)
    bend = smooth_field(canvas.grid, finding.seed, 30.0)[box] * np.float32(5.0)
    nearest = np.full(bend.shape, 99, dtype=np.float32)
    for axis, shift, sign in zip(axes, finding.points[0], (1, 1, -1), strict=True):
        place = (sign * bend + (axis + np.float32(shift))) * np.float32(1 / _SEPTAL_CELL_MM)
        place -= np.rint(place)
        np.abs(place, out=place)
        np.minimum(nearest, place, out=nearest)
    # a wall thinner than a voxel fills only its share of it
    depth = np.float32(finding.amount / 2) - nearest * np.float32(_SEPTAL_CELL_MM)
    share = ramp(depth, edge) * np.float32(min(1.0, finding.amount / (0.75 * edge)))
    canvas.lesion(Patch(box, share), -100.0, finding_id(finding.name), threshold=0.2)


def sample_peribronchial(request: Request) -> Finding:
    """Draw thick walls around the bronchi of both lungs."""
    thickness = request.uniform(2.5, 4.0)
    return Finding(
        request.name,
        side="bilateral",
        place="both lungs",
        degree=grade(thickness, 2.5, 4.0),
        size_mm=thickness,
        amount=thickness,
    )


def paint_peribronchial(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint cuffs along the first generations of the bronchial tree."""
    points, volumes = [], []
    for side in ("left", "right"):
        tree = lung_tree(thorax.seed, side)
        for branches, radius in zip(tree, _BRONCHUS_RADII_MM, strict=False):
            tubes = Branches(
                branches.start + _BRONCHUS_OFFSET_MM, branches.end + _BRONCHUS_OFFSET_MM, radius
            )
            inner = max(radius - finding.amount, 0.8)
            where, volume = fill_points(tubes, 2.0, inner)
            points.append(where)
            volumes.append(volume)
    patch = filaments(canvas.grid, np.concatenate(points), np.concatenate(volumes))
    canvas.lesion(patch, 20.0, finding_id(finding.name), threshold=0.25)


def sample_pleural_effusion(request: Request) -> Finding:
    """Draw fluid behind one lung or both."""
    depth = request.uniform(24.0, 62.0)
    degree = {"mild": "small", "moderate": "moderate", "severe": "large"}[grade(depth, 24.0, 62.0)]
    return Finding(
        request.name,
        side=request.side,
        place="both sides" if request.side == "bilateral" else f"{request.side} side",
        degree=degree,
        size_mm=depth,
        amount=depth,
    )


def paint_pleural_effusion(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Fill the back of the pleural space up to a tilted, curved level."""
    box = canvas.grid.box((-135.0, -30.0, -999.0), (70.0, 999.0, 999.0))
    z, y, x = canvas.grid.cut(box)
    level = thorax.cavity_radii[0] - finding.amount + 0.35 * np.clip(z + 70, 0, 999)
    depth = (y - level + 0.15 * (np.abs(x) - 60)).astype(np.float32)
    alpha = ramp(depth, canvas.grid.edge_mm) * _side_mask(x, finding.side)
    fluid = Patch(box, alpha * canvas.lung[box])
    canvas.lesion(fluid, 10.0, finding_id(finding.name), in_lung=False)
    canvas.lung[box] *= 1 - alpha


def _side_mask(x: Float[np.ndarray, "1 1 w"], side: str) -> Float[np.ndarray, "1 1 w"]:
    if side == "bilateral":
        return np.ones_like(x)
    return ((x > 0) if side == "left" else (x < 0)).astype(np.float32)
