"""``maxca report``: a page for a registration that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Quiet
from maxca.cli.terminal import report as say

EXAMPLE = "Example:  maxca report patient_on_atlas"


def report(
    folder: Annotated[Path, typer.Argument(help="What maxca register wrote.", show_default=False)],
    fixed: Annotated[
        Path | None,
        typer.Option("--fixed", "-f", help="Where the fixed image is now, if it was moved.", show_default=False),
    ] = None,
    moving: Annotated[
        Path | None,
        typer.Option("--moving", "-m", help="Where the moving image is now, if it was moved.", show_default=False),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make report.html in an output folder: what a registration did, and whether to trust it.

    One file, which opens without a network: both images in three planes, what differs, how space was bent, labels and
    landmarks where there are some, and a verdict with its reasons.
    """
    from maxca.errors import MaxcaError
    from maxca.report.case import read_case

    try:
        from maxca.report.html import REPORT, write_report
    except ImportError as error:
        raise MaxcaError("a report needs more packages: pip install 'maxca[report]'") from error
    verdict = write_report(read_case(folder, fixed, moving), folder / REPORT)
    say(f"{folder / REPORT}: {verdict.state}", quiet=quiet)
    for reason in verdict.reasons:
        say(f"  {reason}", quiet=quiet)
