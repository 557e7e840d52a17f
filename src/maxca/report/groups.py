"""Contents of a report: groups of figures, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from maxca.geometry import Chain, Grid
from maxca.geometry.fit import fitted_affine
from maxca.geometry.jacobian import field_determinant, nondiffeomorphic_volume
from maxca.registration.measures import VolumeChange
from maxca.registration.record import Assessment, GuideRecord, Record
from maxca.report import charts, pictures
from maxca.report.case import Case
from maxca.report.lengths import length
from maxca.report.parts import Group, Picture, Shown, Table
from maxca.report.planes import Plane, sampled
from maxca.report.regions import of_bodies, of_excluded
from maxca.report.uncertainty import of_uncertainty

LINE_COUNT = 16  # most lines of a deformed grid along its longest side
DETERMINANT_VOXELS = 2_000_000
POINTS = 100_000
MOST_PERCENT = 20.0  # of the colours of a change of volume


def grouped(case: Case, shown: list[Shown]) -> Iterator[Group]:
    """The groups of figures.

    Args:
        case: the registration.
        shown: the planes.
    """
    middle = [(one, one.plane.middle) for one in shown]
    yield Group(
        "checkerboard",
        "Checkerboard",
        "Alternating squares of the fixed and of the warped image: edges must be continuous across squares.",
        [
            Picture(pictures.checkerboard(one.middle("fixed"), one.middle("warped")), f"checkerboard, {plane.name}")
            for one, plane in middle
        ],
    )
    yield Group(
        "difference",
        "Difference, before and after",
        "Orange where the moving image is brighter than the fixed one, purple where it is darker, white where they "
        "agree. Of little use between two contrasts.",
        [
            Picture(pictures.difference(one.middle("fixed"), one.middle(layer)), f"difference {when}, {plane.name}")
            for layer, when in (("before", "before"), ("warped", "after"))
            for one, plane in middle
        ],
    )
    yield _deformation(case, middle)
    if case.record.metrics.volume_change is not None:
        yield _change(case, case.record.metrics.volume_change, middle)
    if case.record.metrics.uncertainty is not None:
        yield of_uncertainty(case, case.record.metrics.uncertainty, middle)
    if case.fixed.labels is not None and case.moving.labels is not None:
        yield _labels(case, middle)
    if case.record.guide is not None and case.record.metrics.predicted_dice_after is not None:
        yield _predicted(case.record.guide, case.record.metrics)
    if case.fixed.points is not None and case.moving.points is not None:
        yield _points(case, middle)
    if case.record.metrics.excluded:
        yield of_excluded(case, [plane for _, plane in middle])
    if case.record.metrics.bodies:
        yield of_bodies(case, [plane for _, plane in middle])


def _deformation(case: Case, middle: list[tuple[Shown, Plane]]) -> Group:
    field = _without_affine(case)
    lattice = _lattice(case.fixed.image.grid)
    dense = case.chain.field_on(lattice)
    determinant = field_determinant(dense).clamp(min=1e-3).log().numpy()
    folded = (nondiffeomorphic_volume(dense) > 0).float().numpy()
    drawn = []
    for one, plane in middle:
        across = [axis for axis in range(3) if axis != plane.normal]
        nodes = plane.grid.to_world(np.argwhere(np.ones(plane.grid.shape))).reshape(*plane.grid.shape, 3)
        moved = plane.grid.to_voxel(field(nodes))[..., across] * plane.grid.spacing[across]
        extent = min(n * s for n, s in zip(plane.grid.shape, plane.grid.spacing, strict=True) if n > 1)
        mm = _round_step(extent / LINE_COUNT)
        lines = pictures.bent_grid(one.middle("fixed"), plane.pictures(moved)[0], mm)
        drawn.append(Picture(lines, f"lines {mm:g} mm apart in the moving image, {plane.name}"))
    for _, plane in middle:
        change = plane.pictures(sampled(determinant, lattice, Chain(), plane))[0]
        folds = plane.pictures(sampled(folded, lattice, Chain(), plane))[0] > 0
        drawn.append(Picture(pictures.volume_change(change, folds), f"change of volume, {plane.name}"))
    return Group(
        "deformation",
        "Deformation",
        "Straight lines of the moving image mapped into the fixed one, without the affine part; then the log of "
        "the Jacobian determinant: orange where the map expands (fourfold where darkest), purple where it shrinks, and "
        "pink at folds.",
        drawn,
    )


def _change(case: Case, change: VolumeChange, middle: list[tuple[Shown, Plane]]) -> Group:
    """The change of volume between two times."""
    lattice = _lattice(case.fixed.image.grid)
    percent = 100 * (field_determinant(case.chain.field_on(lattice)).numpy() - 1)
    drawn = [Picture(one.middle("fixed"), f"fixed image, {plane.name}") for one, plane in middle]
    for _, plane in middle:
        found = plane.pictures(sampled(percent, lattice, Chain(), plane))[0]
        drawn.append(Picture(pictures.percent_change(found, MOST_PERCENT), f"change in percent, {plane.name}"))
    rows: list[tuple[str, ...]] = [
        (_label(case.record, label), f"{percent:+.1f}") for label, percent in change.by_label.items()
    ]
    return Group(
        "change",
        "Change of volume",
        f"From the fixed to the moving image: orange where it grows, purple where it shrinks, darkest at "
        f"{MOST_PERCENT:g} % and beyond. Over the content the mean is {change.mean_percent:+.1f} %; 5 % of the voxels "
        f"are below {change.p05_percent:+.1f} %, and 5 % above {change.p95_percent:+.1f} %.",
        drawn,
        Table("Change of each label of the fixed image", ("label", "percent"), rows) if rows else None,
    )


def _labels(case: Case, middle: list[tuple[Shown, Plane]]) -> Group:
    fixed, moving = case.fixed, case.moving
    assert fixed.labels is not None and moving.labels is not None
    drawn = []
    for chain, when in ((Chain(), "before"), (case.chain, "after")):
        for one, plane in middle:
            mine = plane.pictures(sampled(fixed.labels, fixed.image.grid, Chain(), plane, "nearest"))[0]
            theirs = plane.pictures(sampled(moving.labels, moving.image.grid, chain, plane, "nearest"))[0]
            drawn.append(Picture(pictures.outlined(one.middle("fixed"), mine, theirs), f"labels {when}, {plane.name}"))
    metrics = case.record.metrics
    tables = [(getattr(metrics, key), write) for key, write in LABEL_KEYS.items()]
    assert metrics.dice_after is not None  # there are labels on both sides
    rows = [
        (_label(case.record, label), *(write(table.by_label.get(label)) for table, write in tables))
        for label in sorted(metrics.dice_after.by_label, key=int)
    ]
    heads = ("label", "Dice before", "Dice after", "HD95 before, mm", "HD95 after, mm")
    return Group(
        "labels",
        "Labels",
        "Outlines of the fixed image's labels in orange, of the moving image's in blue, before and after."
        + _guiding(case, "labels"),
        drawn,
        Table("Overlap and 95 % Hausdorff distance of each label", heads, rows),
    )


def _label(record: Record, label: str) -> str:
    """The number of a label, and its name, if known."""
    return f"{label}, {record.label_names[label]}" if label in record.label_names else label


def _guiding(case: Case, kind: str) -> str:
    """That data guided the registration which they measure."""
    guiding = any(each.kind == kind for each in case.record.guidance)
    return f" These {kind} guided the registration: they do not measure its accuracy elsewhere." if guiding else ""


def _predicted(guide: GuideRecord, metrics: Assessment) -> Group:
    """The overlap of labels that a model predicted, lowest first."""
    before, after = metrics.predicted_dice_before, metrics.predicted_dice_after
    assert before is not None and after is not None
    known = {label: value for label, value in after.by_label.items() if value is not None}
    rows: list[tuple[str, ...]] = [
        (guide.labels.get(label, label), _number(before.by_label.get(label)), _number(known[label]))
        for label in sorted(known, key=lambda label: known[label])
    ]
    return Group(
        "predicted",
        "Predicted labels",
        f"The model {guide.name} segmented both images. The overlap is calibrated against labels drawn by people, but "
        "remains an estimate.",
        [],
        Table("Predicted Dice of each label", ("label", "before", "after"), rows),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _length(value: float | None) -> str:
    return "–" if value is None else length(value)


LABEL_KEYS = {"dice_before": _number, "dice_after": _number, "hd95_mm_before": _length, "hd95_mm_after": _length}


def _points(case: Case, middle: list[tuple[Shown, Plane]]) -> Group:
    assert case.fixed.points is not None
    places = case.fixed.points.coordinates
    drawn = []
    for one, plane in middle:
        across = [axis for axis in range(3) if axis != plane.normal]
        index = plane.grid.to_voxel(places)[:, across]
        columns, rows = (np.array(plane.grid.shape)[across] - 1 - index).T
        marked = pictures.dotted(one.middle("fixed"), np.stack([rows, columns], axis=1), pictures.FIRST)
        drawn.append(Picture(marked, f"all landmarks, projected onto the {plane.name} slice"))
    errors = case.record.metrics.tre_mm_before, case.record.metrics.tre_mm_after
    pairs = zip(*((each.by_point or () if each is not None else ()) for each in errors), strict=True)
    suspected = {name for each in case.record.guidance for name in each.suspected}
    names = case.fixed.points.labels or tuple(map(str, range(1, len(places) + 1)))
    rows_: list[tuple[str, ...]] = [
        (f"{name} (may be wrong)" if name in suspected else name, length(before), length(after))
        for name, (before, after) in zip(names, pairs, strict=True)
    ]
    return Group(
        "points",
        "Landmarks",
        "Positions of the landmarks of the fixed image, and their distance to the corresponding moving ones."
        + _guiding(case, "points"),
        drawn,
        Table("Target registration error", ("point", "before, mm", "after, mm"), rows_),
    )


def drawings(case: Case) -> Iterator[str]:
    """The histogram of the motion, and the similarity at each step, as SVG."""
    start = case.fixed.image.grid.to_world(case.content[:: max(1, len(case.content) // POINTS)])
    moved = np.linalg.norm(case.chain.map_points(start) - start, axis=1)
    yield charts.histogram(moved, f"motion: mean {moved.mean():.3g}, largest {moved.max():.3g} mm")
    if case.record.levels:
        yield charts.curves(case.record.levels, case.record.metrics.similarity.name)


def _without_affine(case: Case) -> Callable[[np.ndarray], np.ndarray]:
    """The map without its best-fitting affine: the nonlinear part."""
    grid = case.fixed.image.grid
    corners = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 12) for n in grid.shape), indexing="ij"), axis=-1)
    start = grid.to_world(corners.reshape(-1, 3))
    back = fitted_affine(start, case.chain.map_points(start)).inverse()[0]
    return lambda points: back.map_points(case.chain.map_points(points))


def _lattice(grid: Grid) -> Grid:
    """The grid, or every n-th node of it, on which the determinant is shown."""
    step = 1
    while np.prod([-(-n // step) for n in grid.shape]) > DETERMINANT_VOXELS:
        step += 1
    return grid if step == 1 else grid.every([step if n > 4 else 1 for n in grid.shape])


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least ``value``."""
    power = 10.0 ** math.floor(math.log10(least))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9)))
