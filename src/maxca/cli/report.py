"""``maxca report``: the report of an existing registration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from maxca.cli.options import Quiet, from_options
from maxca.cli.terminal import progress_bar
from maxca.cli.terminal import report as say
from maxca.fields import About

EXAMPLE = "Example:  maxca report patient_on_atlas"
FILES = "Files that were moved"
MOVED = About("Its new path.", FILES)


@dataclass(frozen=True)
class MovedFiles:
    """Where files are now that a registration was made from."""

    fixed: Annotated[Path | None, About("New path of the fixed image.", FILES, "-f")] = None
    moving: Annotated[Path | None, About("New path of the moving image.", FILES, "-m")] = None
    fixed_mask: Annotated[Path | None, MOVED] = None
    moving_mask: Annotated[Path | None, MOVED] = None
    fixed_labels: Annotated[Path | None, MOVED] = None
    moving_labels: Annotated[Path | None, MOVED] = None
    fixed_points: Annotated[Path | None, MOVED] = None
    moving_points: Annotated[Path | None, MOVED] = None
    fixed_exclude: Annotated[Path | None, MOVED] = None
    moving_exclude: Annotated[Path | None, MOVED] = None
    rigid: Annotated[Path | None, MOVED] = None


@from_options()
def report(
    folder: Annotated[
        Path,
        typer.Argument(help="An output folder of maxca register; with --cohort, a folder of them.", show_default=False),
    ],
    moved: MovedFiles,
    cohort: Annotated[
        bool, typer.Option("--cohort", help="One page, cohort.html, for all output folders below this one.")
    ] = False,
    pages: Annotated[bool, typer.Option("--pages", help="With --cohort: also create the page of each result.")] = False,
    figures: Annotated[
        Literal["png", "svg"] | None,
        typer.Option("--figures", help="Write only the figures, as files of this kind.", show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Create report.html in an output folder, with the verdict on a registration and its images.

    A self-contained file: both images in three planes, differences, deformation, labels and landmarks if given, and a
    verdict with its reasons. With --cohort, a table of many results, those that need inspection first.
    """
    from maxca.errors import MaxcaError

    if cohort and (moved != MovedFiles() or figures):
        raise typer.BadParameter("--cohort goes with --pages alone")
    if pages and not cohort:
        raise typer.BadParameter("--pages goes with --cohort")
    if not folder.is_dir():
        raise MaxcaError(f"{folder}: no such folder; pass an output folder of maxca register")
    try:
        from maxca.report.case import read_case
        from maxca.report.cohort import PAGE, write_cohort
        from maxca.report.figures import write_figures
        from maxca.report.html import REPORT, write_report
    except ImportError as error:
        raise MaxcaError("a report needs additional dependencies: pip install 'maxca[report]'") from error
    if cohort:
        with progress_bar(quiet=quiet) as progress:
            entries = write_cohort(folder, pages=pages, progress=progress)
        states = [entry.state for entry in entries]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        say(f"{folder / PAGE}: {counts}", quiet=quiet)
        return
    others = {role: path for role, path in asdict(moved).items() if path is not None}
    case = read_case(folder, others.pop("fixed", None), others.pop("moving", None), others=others)
    if figures:
        for path in write_figures(case, folder, figures):
            say(str(path), quiet=quiet)
        return
    verdict = write_report(case, folder / REPORT)
    say(f"{folder / REPORT}: {verdict.state}", quiet=quiet)
    for reason in verdict.reasons:
        say(f"  {reason}", quiet=quiet)
