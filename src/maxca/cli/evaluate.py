"""``maxca evaluate``: scores of methods on a list of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Quiet, from_options
from maxca.cli.terminal import progress_bar, report, warn
from maxca.evaluate.options import ComparisonOptions, EvaluationOptions

EXAMPLE = "Example:  maxca evaluate --pairs pairs.csv --methods maxca-balanced,greedy -o results.csv"


@from_options()
def evaluate(
    pairs: Annotated[
        Path,
        typer.Option(
            "--pairs",
            help="CSV or JSON list with the columns fixed, moving and, for scores, fixed_labels, moving_labels, "
            "fixed_points, moving_points, fixed_mask, group; for maxca also fixed_exclude, moving_exclude, rigid, "
            "initial_transform, and fixed_2 and moving_2 of a second channel.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="CSV, a row per pair and method; existing rows are kept.", show_default=False
        ),
    ],
    compared: ComparisonOptions,
    options: EvaluationOptions,
    against: Annotated[
        str | None,
        typer.Option(help="The method the others are compared with; by default the first.", show_default=False),
    ] = None,
    figure: Annotated[
        list[Path] | None,
        typer.Option(
            "--figure",
            help="PNG or SVG; its name selects the figure: …labels, …folding, or else Dice against time; repeatable.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Evaluate registrations on a list of pairs: Dice, surface distances, landmarks, folding, time and memory.

    In addition to results.csv, it writes results-labels.csv, a row per label, and the summary: mean, standard
    deviation, 95 % interval, and paired tests against one method; as text in results.md, for every score in
    results-summary.csv. After an interruption, the same command continues.
    """
    from maxca.evaluate.methods import GIVEN, Method, crossed, parse, split
    from maxca.evaluate.rows import names, read_rows
    from maxca.evaluate.run import evaluate as run

    chosen = crossed([parse(name) for name in split(compared.methods)], compared.model, compared.smoothness_mm)
    given = [Path(folder) for folder in compared.transforms]
    chosen += [Method(GIVEN, folder=folder, matrix_convention=compared.matrix_convention) for folder in given]
    there = [method.name for method in chosen]
    if against is not None and against not in (*there, *names(read_rows(out), "method")):
        raise typer.BadParameter(
            f"--against {against}: is neither one of the methods, {', '.join(there)}, nor in {out}"
        )
    _check_figures(figure or [])
    noticed: list[str] = []
    with progress_bar(quiet=quiet) as progress:
        added = run(pairs, out, chosen, options, progress=progress, warn=noticed.append)
    warn(noticed)
    _summarise(out, against, figure or [], added, quiet)


def _check_figures(figures: Sequence[Path]) -> None:
    from maxca.io.atomic import check_new_file

    for path in figures:
        if path.suffix.lower() not in (".png", ".svg"):
            raise typer.BadParameter(f"{path}: a figure must end in .png or .svg")
        check_new_file(path, (".png", ".svg"), overwrite=True)
    if figures and find_spec("matplotlib") is None:
        raise typer.BadParameter("figures need an additional package: pip install 'maxca[bench]'")


def _summarise(out: Path, against: str | None, figures: Sequence[Path], added: int, quiet: bool) -> None:
    """Write the summary and the figures of a table; torch is imported here, after the last process was started."""
    from maxca.evaluate import figures as drawn
    from maxca.evaluate.rows import LABEL_COLUMNS, SUMMARY_COLUMNS, append, label_file, read_rows, summary_file
    from maxca.evaluate.summary import markdown, summary
    from maxca.io.atomic import atomic_path

    rows = read_rows(out)
    table = markdown(rows, against)
    with atomic_path(out.with_suffix(".md")) as unfinished:
        unfinished.write_text(table, encoding="utf-8")
    with atomic_path(summary_file(out)) as unfinished:
        append(unfinished, summary(rows, against), SUMMARY_COLUMNS)
    for path in figures:
        if path.stem.endswith("labels"):
            drawn.by_label(read_rows(label_file(out), LABEL_COLUMNS), path)
        elif path.stem.endswith("folding"):
            drawn.against_folding(rows, path)
        else:
            drawn.against_time(rows, path)
    report(table, quiet=quiet)
    failed = sum(bool(row["error"]) for row in rows)
    report(f"{out}: {added} rows added, {len(rows)} in all" + (f", {failed} failed" if failed else ""), quiet=quiet)
