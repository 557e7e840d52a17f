"""``maxca cohort``: all pairs of a list, on Dask."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from maxca.cli.options import Quiet, from_options, help_of
from maxca.cli.register import _model
from maxca.cli.terminal import note, progress_bar, report, warn
from maxca.options import RegistrationOptions
from maxca.workflows.cohort.options import AtlasInputs, CohortOptions

EXAMPLE = "Example:  maxca cohort pairs.csv -o results --workers 4"
RUN = "run"
SHOWN = 5  # failed pairs that are printed


class RunsByDefault(typer.core.TyperGroup):
    """``maxca cohort pairs.csv`` is ``maxca cohort run pairs.csv``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command unless the first word is another one."""
        if not args or args[0] not in self.commands:
            args = [RUN, *(args or ["--help"])]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunsByDefault,
    help="Register all pairs of a list in parallel: maxca cohort PAIRS -o OUT; count them: maxca cohort status OUT.",
)


@from_options(model=_model)
def run(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="CSV or JSON list with the columns moving, fixed (unless --fixed is given) and, as available, those "
            "of masks, labels, points and group.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--output", "-o", help="The output folder; nothing else is written.", show_default=False),
    ],
    atlas: AtlasInputs,
    options: RegistrationOptions,
    where: CohortOptions,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Whether to judge the results and to write cohort.html.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Register all pairs of a list in parallel; the same command resumes after an interruption.

    The output folder contains a folder for each pair, as of maxca register, plan.json (inputs with hashes, options, and
    what became of each pair), measures.tsv (all measures, a row per pair), labels.tsv (a row per label) and cohort.html
    (a page of all pairs, those that failed first).

    Each registration uses one thread unless --threads is given. A pair whose files and options are unchanged is not
    registered again; one that failed only with --retry failed.
    maxca cohort status OUT counts them.
    """
    from maxca.workflows.cohort.run import cohort

    finish = _finish() if can_draw("cohort.html", wanted=page, quiet=quiet) else None
    with progress_bar(quiet=quiet) as progress:
        plan = cohort(
            pairs,
            out,
            options,
            where,
            atlas=atlas,
            progress=progress,
            warn=lambda line: warn([line]),
            finish=finish,
        )
    if finish is not None:
        _write_page(out, quiet)
    _summarise(out, quiet)
    if plan.count()["failed"]:
        raise typer.Exit(1)


def status(
    folder: Annotated[Path, typer.Argument(help="An output folder of maxca cohort.", show_default=False)],
) -> None:
    """Print how many pairs of a cohort are done, failed and pending, and why pairs failed."""
    _summarise(folder, quiet=False)


def can_draw(what: str, *, wanted: bool, quiet: bool) -> bool:
    """Whether pages are wanted and can be made; without their packages a note says what is missing."""
    able = all(map(find_spec, ("jinja2", "matplotlib")))
    if wanted and not able:
        note(f"no {what}, which needs additional packages: pip install 'maxca[report]'", quiet=quiet)
    return wanted and able


def _finish() -> Callable[[Path], None]:
    """What a worker does with each result for the page."""
    from maxca.report.cohort import prepare_row

    return prepare_row


def _write_page(out: Path, quiet: bool) -> None:
    from maxca.report.cohort import PAGE, write_cohort

    with progress_bar(quiet=quiet) as progress:
        write_cohort(out, progress=progress)
    report(str(out / PAGE), quiet=quiet)


def _summarise(folder: Path, quiet: bool) -> None:
    from maxca.workflows.cohort.plan import read_plan

    plan = read_plan(folder)
    counts = ", ".join(f"{count} {state}" for state, count in plan.count().items())
    report(f"{folder}: {len(plan.pairs)} pairs, {counts}", quiet=quiet)
    failed = [pair for pair in plan.pairs if pair.state == "failed"]
    for pair in failed[:SHOWN]:
        report(f"  {pair.name}: {pair.error}", quiet=quiet)
    if len(failed) > SHOWN:
        report(f"  and {len(failed) - SHOWN} more, see measures.tsv", quiet=quiet)


app.command(RUN, help=help_of(run), epilog=EXAMPLE)(run)
app.command("status", help=help_of(status), epilog="Example:  maxca cohort status results")(status)
