"""One registration as a self-contained page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import jinja2
from markupsafe import Markup

from maxca.errors import printable
from maxca.io.atomic import atomic_path
from maxca.io.images import Image
from maxca.registration.record import Record
from maxca.report.case import Case
from maxca.report.groups import drawings, grouped
from maxca.report.kept import verdict_of
from maxca.report.lengths import length
from maxca.report.parts import Shown
from maxca.report.planes import planes
from maxca.report.verdict.check import Verdict
from maxca.report.volumes import as_volumes
from maxca.version import installed_version

HERE = Path(__file__).parent / "viewer"
VIEWER = HERE / "built" / "space.js"  # created by `make viewer`
REPORT = "report.html"
# Settings that the page shows, if they are given.
FACTS = (
    *("preset", "transform", "restrict", "max_displacement", "effort", "initial_transform"),
    *("seed", "threads", "device"),
)


def write_report(case: Case, path: Path) -> Verdict:
    """Write the page of one registration.

    Args:
        case: the registration.
        path: the HTML file.

    Returns:
        The verdict shown at the top of the page.
    """
    verdict = verdict_of(case)
    page = render(case, verdict)
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return verdict


def render(case: Case, verdict: Verdict) -> str:
    """The page as text."""
    shown = [Shown(case, plane) for plane in planes(case)]
    record, volumes, viewer = (
        case.record,
        as_volumes(case),
        Markup(VIEWER.read_text("utf-8") if VIEWER.is_file() else ""),
    )
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            name=case.name,
            fixed_name=_file(case.fixed.image),
            moving_name=_file(case.moving.image),
            verdict=verdict,
            planes=[one.about for one in shown],
            groups=list(grouped(case, shown)),
            charts=[Markup(drawing) for drawing in drawings(case)],  # SVG with text escaped by `charts`
            volumes=volumes,
            viewer=viewer,
            command=record.command or "",
            facts=list(_facts(record)),
            version=installed_version(),
            css=own("page.css"),
            script=own("page.js"),
            script_sources=sources(own("page.js"), viewer),
            slices=[one.about for one in shown],
        )
    )


def templates() -> jinja2.Environment:
    """The template environment, which escapes values and replaces non-printable characters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["length_mm"] = length
    return environment


def own(name: str) -> Markup:
    """A style sheet or script of this package to embed into a page."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def sources(*scripts: str) -> str:
    """The sources in a Content-Security-Policy that allow only these inline scripts."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts if script)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    """Provenance as pairs of text."""
    yield "model", f"{record.settings.model} ({record.model_reason})"
    for number, channel in enumerate(record.channels, start=1):
        score = record.metrics.similarity_by_channel[number - 1]
        same = {True: "same contrast", False: "between contrasts", None: "only warped"}[channel.same_contrast]
        yield (
            f"channel {number}",
            f"{channel.warped}, weight {channel.weight:g}, {same}, {score.name} {score.before:.3f} → {score.after:.3f}",
        )
    if record.settings.guide:
        yield "guided by", ", ".join(record.settings.guide)
    for key in FACTS:
        value = getattr(record.settings, key)
        if value is not None:
            yield key.replace("_", " "), str(value)
    if record.metrics.excluded:
        yield "excluded region filled", str(record.settings.exclude_as or "smooth")
    if record.affine is not None and record.affine.searched is not None:
        yield "search over all rotations", record.affine.searched
    if record.smoothness is not None:
        yield "choice of the smoothness", record.smoothness.reason
    seconds = record.seconds
    stages = ", ".join(f"{stage} {time:.1f}" for stage, time in seconds.items())
    yield "seconds", f"{sum(seconds.values()):.1f} ({stages})"
    yield "peak memory", f"{record.peak_memory_mb:g} MB"
    for warning in record.warnings:
        yield "warning", warning
    yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    for role, file in record.inputs.items():
        yield role.replace("_", " "), f"{file.path} (SHA-256 {file.sha256[:12]}…)"


def _file(image: Image) -> str:
    """The name of an image: that of its file without folders."""
    return image.name if image.path is None else image.path.name
