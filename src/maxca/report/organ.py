"""The motion of an organ as a self-contained page: a movie, curves of volume and strain, statistics over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.io.series import Series, open_series
from maxca.report import pictures
from maxca.report.charts import over_frames
from maxca.report.parts import Group, Table
from maxca.report.planes import Plane, planes_of, sampled
from maxca.report.series import over_time, write_parts
from maxca.workflows.series.corrected import CORRECTED
from maxca.workflows.series.organ.record import STRAIN, LabelRow, LabelSummary
from maxca.workflows.series.organ.run import CARRIED, OrganResult

MOST_MOVIE = 40  # pictures of a movie
CYCLE = 2_400  # milliseconds of a movie,
FASTEST, SLOWEST = 50, 250  # and limits of a picture of it
AROUND = 0.5  # of the extent of what moves: shown around it
MOVES = 0.2  # of the largest standard deviation over time: what moves
MOST_ROWS = 2_000  # of the table on the page; all are in frames.tsv
MOST_CURVES = 5  # labels in a chart
LOCAL = {"radial": "strain_radial", "circumferential": "strain_circumferential", "longitudinal": "strain_longitudinal"}
PRINCIPAL = {"largest": "strain_largest", "smallest": "strain_smallest"}
DEFINITION = (
    "Green-Lagrange strain E = (FᵀF − 1) / 2 since the frame of the labels, with the deformation gradient F "
    "(Holzapfel, Nonlinear Solid Mechanics, 2000), as a mean over the label: "
)


@dataclass(frozen=True, eq=False)
class MoviePicture:
    """Pictures that follow each other, with their text.

    Args:
        frames: (H, W, 3) uint8 each.
        alt: alternative text.
    """

    frames: Sequence[np.ndarray]
    alt: str

    @property
    def array(self) -> np.ndarray:
        """The first of them."""
        return self.frames[0]

    @cached_property
    def address(self) -> str:
        """``data:``."""
        return pictures.as_movie(self.frames, int(np.clip(CYCLE / len(self.frames), FASTEST, SLOWEST)))

    @property
    def still(self) -> str:
        """``data:`` of the first, for those who prefer no motion."""
        return pictures.as_address(self.frames[0])


def write_page(result: OrganResult, folder: Path) -> None:
    """Write ``report.html``: a movie, curves, statistics over time and a table of the frames.

    Args:
        result: of ``maxca.organ_motion``.
        folder: with the other files of the output, where the page is written.
    """
    parts = (_headline(result), _about_charts(result), _charts(result), _groups(result, folder), _facts(result))
    write_parts(result, folder, *parts)


def _headline(result: OrganResult) -> str:
    motion = result.record.motion
    text = (
        f"{motion.frames} frames. Displacement up to {motion.displacement_max_mm:.1f} mm; local correlation with the "
        f"reference {motion.similarity_before:.3f} before and {motion.similarity:.3f} after alignment; folding at most "
        f"{motion.ndv_percent:.2g} %."
    )
    for each in motion.labels[:MOST_CURVES]:
        if each.volume_change_percent is not None:
            change = "volume change" if each.ejection_fraction_percent is None else "ejection fraction"
            text += (
                f" {_name(each)}: {each.largest_ml:.3g} ml in frame {each.largest_frame}, {each.smallest_ml:.3g} ml in "
                f"frame {each.smallest_frame}, {change} {each.volume_change_percent:.0f} %."
            )
    return text


def _about_charts(result: OrganResult) -> str:
    if not result.measures.labels:
        return "What moved since the reference."
    local = any(row.strain_radial is not None for row in result.measures.labels)
    along = (
        "along the radius from the axis of the left ventricle, around it and along it."
        if local
        else "its largest and smallest principal values."
    )
    return DEFINITION + along


def _charts(result: OrganResult) -> Iterator[str]:
    frames, labels = result.measures.frames, result.record.motion.labels[:MOST_CURVES]
    rows = {each.label: [row for row in result.measures.labels if row.label == each.label] for each in labels}
    if labels:
        volumes = {_name(each): np.array([row.volume_ml for row in rows[each.label]]) for each in labels}
        yield over_frames(volumes, "Volume", "ml")
    for each in labels:
        yield from _strain(_name(each), rows[each.label])
    yield over_frames(
        {
            "mean": np.array([row.displacement_mean_mm for row in frames]),
            "largest": np.array([row.displacement_max_mm for row in frames]),
        },
        "Displacement",
        "mm",
    )
    yield over_frames(
        {
            "before": np.array([row.similarity_before for row in frames]),
            "after": np.array([row.similarity for row in frames]),
        },
        "Similarity to the reference",
        "local correlation",
    )
    yield over_frames({"NDV": np.array([row.ndv_percent for row in frames])}, "Non-diffeomorphic volume", "%")


def _strain(name: str, rows: Sequence[LabelRow]) -> Iterator[str]:
    """The strain of a label, along its local axes if it is the wall of a ventricle."""
    columns: Mapping[str, str] = LOCAL if rows[0].strain_radial is not None else PRINCIPAL
    lines = {title: [getattr(row, column) for row in rows] for title, column in columns.items()}
    found = {title: np.array(values, dtype=float) for title, values in lines.items() if values[0] is not None}
    yield over_frames(found, f"Strain of {name}", "Green-Lagrange")


def _groups(result: OrganResult, folder: Path) -> Iterator[Group]:
    labelled = (folder / CARRIED).is_file()
    plane = _plane(result, folder)
    text = "The frames one after the other"
    text += ", with the outlines of the labels as carried to each" if labelled else ""
    text += "; and the same slice after alignment to the reference, in which nothing should move."
    yield Group("movie", "Movie", text, _movie(result, folder, plane))
    found = over_time(result.corrected, result.frames.grid, result.reference.grid, [plane])
    yield from (group for group in found if group.id != "lines")  # across thick slices they show little
    yield Group("frames", "Frames", "Click on a column head to sort.", [], _table(result))


def _plane(result: OrganResult, folder: Path) -> Plane:
    """The slice with the finest pixels, through the labels or what moves, and what is around them."""
    grid = result.frames.grid
    series = _labels(folder)
    if series is not None:
        moves = np.zeros(grid.shape, bool)
        for volume in series.volumes():
            moves |= volume.data != 0
    else:
        deviation = result.corrected.before.deviation
        moves = deviation > MOVES * deviation.max()
    inside = np.argwhere(moves if moves.any() else np.ones_like(moves))  # nothing moves, or labels left the view
    low, high = np.percentile(inside, 1, axis=0), np.percentile(inside, 99, axis=0) + 1
    extra = AROUND * (high - low)
    low = np.maximum(np.floor(low - extra), 0).astype(int)
    high = np.minimum(np.ceil(high + extra), grid.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    values = np.ones(moves[box].shape, np.float32)
    values[0, 0, 0] = 0
    around = Image(values, grid.box(low.tolist(), high.tolist()))
    center = grid.to_world(np.median(inside, axis=0))
    planes = [plane.through(center) for plane in planes_of(around)]
    return max(planes, key=lambda plane: _across(result, plane))


def _across(result: OrganResult, plane: Plane) -> float:
    """How thick the voxels are across a plane; of equal ones, axial planes are the first."""
    canonical = result.frames.grid.canonical
    return float(canonical.spacing[plane.normal]) + 1e-6 * plane.normal


def _movie(result: OrganResult, folder: Path, plane: Plane) -> list[MoviePicture]:
    """The frames and the aligned frames, read again from their files, one in memory."""
    count = result.frames.count
    every = -(-count // MOST_MOVIE)
    labels, corrected = _labels(folder), open_series(folder / CORRECTED)
    assert corrected is not None
    before = _slices(result.frames.series.volumes(), plane, every)
    after = _slices(corrected.volumes(), plane, every)
    names = [None] * len(before) if labels is None else _slices(labels.volumes(), plane, every, labels=True)
    window = pictures.window(np.stack(before))
    shown = [_outlined(pictures.gray(values, window), of) for values, of in zip(before, names, strict=True)]
    aligned = [_outlined(pictures.gray(values, window), None) for values in after]
    text = "frames" if every == 1 else f"every {every}th frame"
    return [
        MoviePicture(shown, f"{text}, {plane.name}" + ("" if labels is None else ", carried labels")),
        MoviePicture(aligned, f"{text} aligned to the reference, {plane.name}"),
    ]


def _labels(folder: Path) -> Series | None:
    """The carried labels, if there are any."""
    return open_series(folder / CARRIED) if (folder / CARRIED).is_file() else None


def _slices(volumes: Iterator[Image], plane: Plane, every: int, labels: bool = False) -> list[np.ndarray]:
    """(H, W) values of every n-th volume on a plane."""
    return [
        plane.pictures(sampled(volume.data, volume.grid, Chain(), plane, "nearest" if labels else "linear"))[0]
        for number, volume in enumerate(volumes)
        if number % every == 0
    ]


def _outlined(base: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    if labels is None:
        return np.repeat(base[..., None], 3, axis=-1)
    return pictures.outlined(base, labels, np.zeros_like(labels))


def _table(result: OrganResult) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            str(row.frame),
            f"{row.similarity_before:.3f}",
            f"{row.similarity:.3f}",
            f"{row.displacement_mean_mm:.2f}",
            f"{row.displacement_max_mm:.2f}",
            f"{row.ndv_percent:.2g}",
        )
        for row in result.measures.frames[:MOST_ROWS]
    ]
    heads = ("frame", "similarity before", "similarity", "displacement mean mm", "displacement max mm", "NDV %")
    caption = "Similarity is local correlation; all columns are in frames.tsv"
    caption += ", labels and strain in labels.tsv." if result.measures.labels else "."
    return Table(caption, heads, rows)


def _facts(result: OrganResult) -> Iterator[tuple[str, str]]:
    record = result.record
    for name, value in record.settings.items():
        if value is not None and name not in ("similarity", "radius", "fd_threshold", "dvars_threshold", "model"):
            yield name.replace("_", " "), str(value)
    yield "model", f"{record.motion.model} ({record.motion.model_reason})"
    for each in record.motion.labels:
        for column in STRAIN:
            if column in each.peak_strain:
                yield f"{_name(each)}, peak {column.replace('_', ' ')}", f"{each.peak_strain[column]:.3f}"
    yield "transforms", record.direction
    yield "passes over the frames", str(record.motion.passes)
    yield "seconds", f"{record.seconds:.1f}"
    yield "peak memory", f"{record.peak_memory_mb:g} MB"
    for warning in record.warnings:
        yield "warning", warning
    yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    for role, file in record.inputs.items():
        yield "model file" if role == "model" else role, f"{file.path} (SHA-256 {file.sha256[:12]}…)"


def _name(each: LabelSummary) -> str:
    return each.name or f"label {each.label}"
