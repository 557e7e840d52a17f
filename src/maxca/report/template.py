"""A template as a self-contained page: its images, its iterations, and how well each scan fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from maxca.engine.volume import foreground
from maxca.geometry import Chain
from maxca.io.atomic import atomic_path
from maxca.io.images import Image, read
from maxca.report import pictures
from maxca.report.charts import over_steps
from maxca.report.html import REPORT, own, sources, templates
from maxca.report.parts import Group, Picture, Table
from maxca.report.planes import Plane, planes_of, sampled
from maxca.version import installed_version
from maxca.workflows.template.average import warped
from maxca.workflows.template.outputs import ITERATIONS
from maxca.workflows.template.registrations import TEMPLATE
from maxca.workflows.template.run import Template

WORST = 6  # scans shown, those that fit least


def write_page(template: Template) -> None:
    """Write ``report.html`` into the folder of a template.

    Args:
        template: of ``maxca.build_template``.
    """
    record = template.record
    page = (
        templates()
        .get_template("template.html.j2")
        .render(
            name=template.folder.resolve().name,
            record=record,
            last=record.iterations[-1],
            charts=[Markup(chart) for chart in _charts(template)],  # SVG with text escaped by `charts`
            groups=[_channels(template), _iterations(template), _scans(template)],
            facts=list(_facts(template)),
            css=own("page.css"),
            script=own("page.js"),
            script_sources=sources(own("page.js")),
            version=installed_version(),
        )
    )
    with atomic_path(template.folder / REPORT) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _charts(template: Template) -> Iterator[str]:
    columns = {
        name: np.array([getattr(one, name) for one in template.record.iterations], float)  # None becomes NaN
        for name in ("shape_mm", "moved_mm", "sharpness", "dice")
    }
    shifts = {"mean shape": columns["shape_mm"], "motion": columns["moved_mm"]}
    yield over_steps(shifts, "Mean shape, and motion of the transforms", "iteration", "mm")
    yield over_steps({"sharpness": columns["sharpness"]}, "Sharpness of the template", "iteration", "1/mm")
    if not np.isnan(columns["dice"]).any():
        yield over_steps({"Dice": columns["dice"]}, "Labels of all pairs of scans", "iteration", "mean Dice")


def _channels(template: Template) -> Group:
    shown = []
    for number, channel in enumerate(template.channels, start=1):
        name = f"channel {number}, " if len(template.channels) > 1 else ""
        shown += [Picture(_slice(channel, plane), f"{name}{plane.name}") for plane in _planes(template)]
    return Group("template", "Template", "Slices through the middle.", shown)


def _iterations(template: Template) -> Group:
    """The templates that the iterations began with, and the last one."""
    axial = _planes(template)[0]
    names = ["initial", "affine", *(f"iteration {number}" for number in range(1, len(template.record.iterations)))]
    files = [template.folder / ITERATIONS / f"{number:02d}" / TEMPLATE for number in range(len(names) - 1)]
    shown = [Picture(_slice(read(file), axial), name) for name, file in zip(names, files, strict=False)]
    shown.append(Picture(_slice(template.image, axial), names[-1]))
    return Group("iterations", "From iteration to iteration", "The initial template, and the one after each.", shown)


def _scans(template: Template) -> Group:
    """The scans in template space, those that fit least first."""
    axial, fits, layers = _planes(template)[0], {}, {}
    content = foreground(template.image.data)
    for name, chain in template.chains.items():
        values = warped(read(template.record.scans[name]), chain, template.image.grid).numpy()
        fits[name] = float(np.corrcoef(values[content], template.image.data[content])[0, 1])
        layers[name] = _slice(Image(values, template.image.grid), axial)
    order = sorted(fits, key=lambda name: fits[name])
    rows: list[tuple[str, ...]] = [(name, f"{fits[name]:.3f}", template.record.scans[name]) for name in order]
    return Group(
        "scans",
        "Scans in template space",
        "Those with the lowest correlation with the template, which may be registered badly.",
        [Picture(layers[name], f"{name}, {fits[name]:.3f}") for name in order[:WORST]],
        Table("Correlation with the template within its content.", ("scan", "correlation", "file"), rows),
    )


def _planes(template: Template) -> list[Plane]:
    return [plane.middle for plane in planes_of(template.image)]


def _slice(image: Image, plane: Plane) -> np.ndarray:
    values = sampled(image.data, image.grid, Chain(), plane)
    return pictures.gray(plane.pictures(values)[0], pictures.window(image.data))


def _facts(template: Template) -> Iterator[tuple[str, str]]:
    record = template.record
    for options in (record.options, record.registration):
        for name, value in options.items():
            if value not in (None, []):
                yield name.replace("_", " "), str(value)
    yield "seconds", f"{sum(one.seconds for one in record.iterations):.0f}"
    yield "transforms", "template points to points of the scan, and their inverses"
