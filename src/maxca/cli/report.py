"""``maxca report``: the report of an existing registration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from maxca.cli.options import Quiet
from maxca.cli.terminal import progress_bar
from maxca.cli.terminal import report as say

EXAMPLE = "Example:  maxca report patient_on_atlas"
Moved = Annotated[Path | None, typer.Option(help="Its new path, if it was moved.", show_default=False)]


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="An output folder of maxca register; with --cohort, a folder of them.", show_default=False),
    ],
    fixed: Annotated[
        Path | None,
        typer.Option("--fixed", "-f", help="New path of the fixed image, if it was moved.", show_default=False),
    ] = None,
    moving: Annotated[
        Path | None,
        typer.Option("--moving", "-m", help="New path of the moving image, if it was moved.", show_default=False),
    ] = None,
    fixed_mask: Moved = None,
    moving_mask: Moved = None,
    fixed_labels: Moved = None,
    moving_labels: Moved = None,
    fixed_points: Moved = None,
    moving_points: Moved = None,
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

    moved = {
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
        "fixed_labels": fixed_labels,
        "moving_labels": moving_labels,
        "fixed_points": fixed_points,
        "moving_points": moving_points,
    }
    others = {role: path for role, path in moved.items() if path is not None}
    if cohort and (fixed or moving or figures or others):
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
    case = read_case(folder, fixed, moving, others=others)
    if figures:
        for path in write_figures(case, folder, figures):
            say(str(path), quiet=quiet)
        return
    verdict = write_report(case, folder / REPORT)
    say(f"{folder / REPORT}: {verdict.state}", quiet=quiet)
    for reason in verdict.reasons:
        say(f"  {reason}", quiet=quiet)
