"""Findings that have a place in one lobe."""

import numpy as np

from medvlp.phantom.canvas import Canvas
from medvlp.phantom.finding import Finding, Request, finding_id, grade
from medvlp.phantom.grid import Point
from medvlp.phantom.shapes import ellipsoid, metaballs, tube
from medvlp.phantom.thorax import PARTS, Thorax, lobe_name


def _point(values: np.ndarray) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _blob(request: Request, part: str, radius: float, count: int) -> Finding:
    """Draw an irregular blob of `count` balls around a point of a part of a lung."""
    center = np.asarray(request.thorax.lobe_point(request.side, part, request.rng))
    spread = request.rng.standard_normal((count, 3)) * (0.75 * radius)
    spread[0] = 0
    radii = radius * request.rng.uniform(0.65, 1.0, count)
    points = center + np.clip(spread, -1.3 * radius, 1.3 * radius)
    extent = float((points.max(0) - points.min(0)).max() + 1.6 * radius)
    return Finding(
        request.name,
        side=request.side,
        place=lobe_name(request.side, part),
        size_mm=extent,
        points=points,
        radii=radii,
    )


def sample_opacity(request: Request) -> Finding:
    """Draw ground glass in one lobe."""
    return _blob(request, request.choice(*PARTS), request.uniform(15.0, 23.0), 7)


def paint_opacity(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint haze through which vessels still show."""
    patch = metaballs(canvas.grid, finding.points, finding.radii)
    patch = patch._replace(alpha=patch.alpha * np.float32(0.85))
    canvas.lesion(patch, -520.0, finding_id(finding.name))


def sample_consolidation(request: Request) -> Finding:
    """Draw airless lung in one lobe."""
    return _blob(request, request.choice(*PARTS), request.uniform(13.0, 20.0), 6)


def paint_consolidation(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint solid lung with open bronchi in it."""
    name = finding_id(finding.name)
    canvas.lesion(metaballs(canvas.grid, finding.points, finding.radii), 25.0, name)
    middle = _point(finding.points[0])
    for point in finding.points[1:4]:
        canvas.lesion(tube(canvas.grid, middle, _point(point), 1.6), -850.0, name)


def sample_nodule(request: Request) -> Finding:
    """Draw a solid nodule with a slightly lobulated outline."""
    part, radius = request.choice(*PARTS), request.uniform(4.0, 12.0)
    center = np.asarray(request.thorax.lobe_point(request.side, part, request.rng))
    points = center + request.rng.uniform(-0.3, 0.3, (3, 3)) * radius
    return Finding(
        request.name,
        side=request.side,
        place=lobe_name(request.side, part),
        size_mm=2 * radius,
        points=points,
        radii=np.full(3, 0.8 * radius),
        amount=radius,
    )


def paint_nodule(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint soft tissue; a nodule below two voxels keeps a ball's outline."""
    size = finding.amount
    if size < canvas.grid.edge_mm:
        patch = ellipsoid(canvas.grid, _point(finding.points.mean(0)), (size, size, size))
    else:
        patch = metaballs(canvas.grid, finding.points, finding.radii)
    canvas.lesion(patch, 40.0, finding_id(finding.name))


def sample_atelectasis(request: Request) -> Finding:
    """Draw a collapsed plate near the base."""
    side, rng = request.side, request.rng
    y, lateral = request.uniform(0.0, 35.0), request.uniform(0.4, 0.6)
    across = np.asarray([70.0 if side == "left" else -70.0])
    base = float(request.thorax.diaphragm_z(np.asarray([y]), across)[0])
    center = request.thorax.lung_point(side, base + request.uniform(12.0, 26.0), y, lateral)
    size = request.uniform(26.0, 40.0)
    return Finding(
        request.name,
        side=side,
        place=lobe_name(side, "lower"),
        size_mm=2 * size,
        points=np.asarray([center]),
        radii=np.asarray([size]),
        amount=float(rng.uniform(-0.35, 0.35)),
    )


def paint_atelectasis(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint a thin, tilted disc."""
    angle, size = finding.amount, float(finding.radii[0])
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.asarray([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    center = _point(finding.points[0])
    patch = ellipsoid(canvas.grid, center, (4.5, size, 0.8 * size), rotation=rotation)
    canvas.lesion(patch, 10.0, finding_id(finding.name))


def sample_fibrotic(request: Request) -> Finding:
    """Draw scars that run from the apex into the lung."""
    count = int(request.rng.integers(6, 11))
    heights = request.rng.uniform(62, 92, count)
    depths = request.rng.uniform(-20, 30, count)
    laterals = request.rng.uniform(0.2, 0.9, count)
    points = [
        request.thorax.lung_point(request.side, float(z), float(y), float(t))
        for z, y, t in zip(heights, depths, laterals, strict=True)
    ]
    return Finding(
        request.name,
        side=request.side,
        place=lobe_name(request.side, "upper"),
        degree=grade(float(count), 6.0, 10.0),
        size_mm=30.0,
        points=np.asarray(points),
        radii=request.rng.uniform(1.6, 2.8, count),
    )


def paint_fibrotic(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint streaks from a thickened cap of pleura."""
    name = finding_id(finding.name)
    top = finding.points[finding.points[:, 0].argmax()] + np.asarray([6.0, 0.0, 0.0])
    canvas.lesion(ellipsoid(canvas.grid, _point(top), (7.0, 20.0, 20.0)), 20.0, name)
    for point, radius in zip(finding.points, finding.radii, strict=True):
        end = point + (point - top) * 0.5
        canvas.lesion(tube(canvas.grid, _point(top), _point(end), float(radius)), 10.0, name)


def sample_bronchiectasis(request: Request) -> Finding:
    """Draw a bunch of widened bronchi in one lobe."""
    part, count = request.choice(*PARTS), int(request.rng.integers(5, 9))
    center = np.asarray(request.thorax.lobe_point(request.side, part, request.rng))
    starts = center + request.rng.uniform(-16, 16, (count, 3))
    return Finding(
        request.name,
        side=request.side,
        place=lobe_name(request.side, part),
        degree=grade(float(count), 5.0, 8.0),
        size_mm=45.0,
        points=starts,
        radii=request.rng.uniform(3.5, 6.0, count),
        seed=request.seed(),
    )


def paint_bronchiectasis(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint wide air tubes with walls; walls first, so that open tubes stay open."""
    rng = np.random.default_rng(finding.seed)
    ends = finding.points + rng.uniform(-1, 1, finding.points.shape) * (10.0, 14.0, 18.0)
    name = finding_id(finding.name)
    for wall, hu in ((2.2, 15.0), (0.0, -960.0)):
        for start, end, radius in zip(finding.points, ends, finding.radii, strict=True):
            patch = tube(canvas.grid, _point(start), _point(end), float(radius) + wall)
            canvas.lesion(patch, hu, name)
