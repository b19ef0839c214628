"""Findings of the heart, the great vessels, the mediastinum and what was put there by doctors."""

from itertools import pairwise

import numpy as np

from medvlp.phantom.canvas import Canvas
from medvlp.phantom.finding import Finding, Request, finding_id, grade
from medvlp.phantom.grid import Point
from medvlp.phantom.organs import AORTA_PATH, EPICARDIAL_FAT_MM, HEART_AXES, heart_patch
from medvlp.phantom.shapes import Patch, ellipsoid, tube
from medvlp.phantom.thorax import Thorax

_METAL_HU, _CALCIUM_HU = 2500.0, 750.0

_NODE_STATIONS: tuple[tuple[str, Point], ...] = (
    ("right paratracheal", (56.0, 2.0, -20.0)),
    ("left paratracheal", (66.0, 10.0, 18.0)),
    ("prevascular", (48.0, -40.0, 6.0)),
    ("aortopulmonary", (34.0, 4.0, 26.0)),
    ("subcarinal", (14.0, 28.0, -4.0)),
    ("right hilar", (6.0, 10.0, -44.0)),
    ("left hilar", (6.0, 12.0, 46.0)),
)

_CORONARY_COURSES = (
    # unit directions in the heart's own axes (up, back, long axis): anterior, right, circumflex
    ((0.75, -0.6, 0.1), (0.45, -0.8, 0.45), (0.1, -0.75, 0.7)),
    ((0.6, -0.5, -0.6), (0.2, -0.7, -0.7), (-0.3, -0.6, -0.75)),
    ((0.7, 0.35, 0.35), (0.4, 0.55, 0.7), (0.0, 0.6, 0.8)),
)


def _point(values: np.ndarray) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def sample_cardiomegaly(request: Request) -> Finding:
    """Draw by how much the heart is enlarged."""
    scale = request.uniform(1.24, 1.42)
    return Finding(
        request.name,
        degree=grade(scale, 1.24, 1.42),
        size_mm=2 * scale * request.thorax.heart_radii[2],
        amount=scale,
        points=np.asarray([request.thorax.heart_center]),
    )


def paint_cardiomegaly(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Mark the heart, which was painted large with the thorax."""
    patch = heart_patch(canvas, thorax, 0.0)
    canvas.findings[patch.box][patch.alpha > 0.5] = finding_id(finding.name)


def sample_pericardial_effusion(request: Request) -> Finding:
    """Draw how thick the fluid around the heart is."""
    thickness = request.uniform(11.0, 22.0)
    return Finding(
        request.name,
        degree=grade(thickness, 11.0, 22.0),
        size_mm=thickness,
        amount=thickness,
        points=np.asarray([request.thorax.heart_center]),
    )


def paint_pericardial_effusion(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Mark the fluid, which was painted with the thorax."""
    outer = heart_patch(canvas, thorax, EPICARDIAL_FAT_MM + finding.amount)
    inner = heart_patch(canvas, thorax, EPICARDIAL_FAT_MM)
    marked = np.zeros(canvas.grid.shape, dtype=bool)
    marked[outer.box] = outer.alpha > 0.5
    marked[inner.box] &= inner.alpha < 0.5
    canvas.findings[marked] = finding_id(finding.name)


def sample_lymphadenopathy(request: Request) -> Finding:
    """Draw three to five enlarged nodes."""
    count = int(request.rng.integers(3, 6))
    stations = request.rng.permutation(len(_NODE_STATIONS))[:count]
    radii = request.rng.uniform(7, 12, count)
    points = np.asarray([_NODE_STATIONS[i][1] for i in stations])
    points = points + request.rng.uniform(-3, 3, points.shape)
    return Finding(
        request.name,
        place=_NODE_STATIONS[stations[int(radii.argmax())]][0],
        size_mm=float(2 * radii.max()),
        points=points,
        radii=radii,
    )


def paint_lymphadenopathy(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint slightly long balls of soft tissue."""
    for point, radius in zip(finding.points, finding.radii.tolist(), strict=True):
        patch = ellipsoid(canvas.grid, _point(point), (1.15 * radius, radius, 0.9 * radius))
        canvas.tissue(patch, 70.0)
        canvas.lesion(patch, 70.0, finding_id(finding.name), in_lung=False)


def sample_hiatal_hernia(request: Request) -> Finding:
    """Draw the part of the stomach that slid behind the heart."""
    radius = request.uniform(20.0, 30.0)
    center = (
        -62 + request.uniform(-6.0, 6.0),
        40 + request.uniform(-4.0, 4.0),
        10 + request.uniform(-8.0, 8.0),
    )
    return Finding(
        request.name,
        degree=grade(radius, 20.0, 30.0),
        size_mm=2 * radius,
        points=np.asarray([center]),
        radii=np.asarray([radius]),
    )


def paint_hiatal_hernia(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint a pouch with a pool of fluid under air."""
    center, radius = _point(finding.points[0]), float(finding.radii[0])
    pouch = ellipsoid(canvas.grid, center, (radius, 0.8 * radius, radius))
    canvas.tissue(pouch, 30.0)
    canvas.lesion(pouch, 30.0, finding_id(finding.name), in_lung=False)
    air_center = (center[0], center[1] - 0.2 * radius, center[2])
    air = ellipsoid(canvas.grid, air_center, (0.7 * radius, 0.42 * radius, 0.7 * radius))
    canvas.tissue(air, -900.0)


def sample_arterial_calcification(request: Request) -> Finding:
    """Draw plaques on the wall of the arch and of the descending aorta."""
    count = int(request.rng.integers(5, 11))
    path = np.asarray(AORTA_PATH)
    segment = request.rng.choice([1, 2, 3, 4, 5], count, p=[0.15, 0.2, 0.2, 0.2, 0.25])
    along = request.rng.uniform(0, 1, (count, 1))
    direction = path[segment + 1] - path[segment]
    around = np.cross(direction, request.rng.standard_normal((count, 3)))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    middle = path[segment] + along * direction
    return Finding(
        request.name,
        place="thoracic aorta",
        degree=grade(float(count), 5.0, 10.0),
        size_mm=5.0,
        points=middle + around * request.thorax.aorta_radius,
        radii=request.rng.uniform(2.2, 3.8, count),
    )


def sample_coronary_calcification(request: Request) -> Finding:
    """Draw plaques along the coronary arteries, in the fat on the heart."""
    count = int(request.rng.integers(3, 8))
    radii = np.asarray(request.thorax.heart_radii) + 2
    center = np.asarray(request.thorax.heart_center)
    points = []
    for _ in range(count):
        course = np.asarray(_CORONARY_COURSES[int(request.rng.choice(3, p=[0.55, 0.25, 0.2]))])
        place = request.uniform(0.0, 1.999)
        unit = course[int(place)] + (place % 1) * (course[int(place) + 1] - course[int(place)])
        unit = unit / np.linalg.norm(unit)
        points.append(center + (unit * radii) @ HEART_AXES)
    return Finding(
        request.name,
        place="coronary arteries",
        degree=grade(float(count), 3.0, 7.0),
        size_mm=5.0,
        points=np.asarray(points),
        radii=request.rng.uniform(2.0, 3.2, count),
    )


def paint_calcification(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint specks of calcium."""
    name = finding_id(finding.name)
    for point, radius in zip(finding.points, finding.radii.tolist(), strict=True):
        patch = ellipsoid(canvas.grid, _point(point), (1.3 * radius, radius, radius))
        canvas.lesion(patch, _CALCIUM_HU, name, in_lung=False, threshold=0.25)


def sample_medical_material(request: Request) -> Finding:
    """Draw a port with its catheter, a pacemaker with its lead, or wires in the sternum."""
    kind = request.choice("port catheter", "pacemaker", "sternal wire")
    front = -request.thorax.cavity_radii[0]
    left = 1.0 if request.side == "left" else -1.0
    if kind == "sternal wire":
        heights = np.linspace(-35, 60, 5)
        points = np.stack([heights, np.full(5, front - 9), np.zeros(5)], axis=1)
        return Finding(request.name, place=kind, size_mm=12.0, points=points, radii=np.full(5, 6.0))
    tip = (-52.0, -52.0, 40.0) if kind == "pacemaker" else (16.0, -8.0, -21.0)
    device = (62 + request.uniform(-8.0, 8.0), front + 6, left * (82 + request.uniform(-6.0, 6.0)))
    points = np.asarray([device, (88.0, -34.0, left * 46), (90.0, -6.0, -20.0), tip])
    radii = np.asarray([22.0 if kind == "pacemaker" else 14.0, 1.8, 1.8, 1.8])
    return Finding(
        request.name, side=request.side, place=kind, size_mm=44.0, points=points, radii=radii
    )


def paint_medical_material(canvas: Canvas, thorax: Thorax, finding: Finding) -> None:
    """Paint metal: a flat box and a line, or a row of wires."""
    parts: list[Patch] = []
    points = [_point(point) for point in finding.points]
    if finding.place == "sternal wire":
        for up, back, left in points:
            parts.append(tube(canvas.grid, (up, back, left - 9), (up, back, left + 9), 2.0))
    else:
        size = float(finding.radii[0])
        parts.append(ellipsoid(canvas.grid, points[0], (size, 6.0, size)))
        for start, end in pairwise(points):
            parts.append(tube(canvas.grid, start, end, float(finding.radii[1])))
    for part in parts:
        canvas.lesion(part, _METAL_HU, finding_id(finding.name), in_lung=False)
