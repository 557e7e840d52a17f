"""``maxca demo``: registration of a brain with a known deformation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maxca.cli.options import Overwrite, Quiet, Seed, Threads
from maxca.cli.terminal import progress_bar, report

EXAMPLE = "Example:  maxca demo -o maxca-demo"


def demo(
    out: Annotated[Path, typer.Option("--output", "-o", help="The output folder.")] = Path("maxca-demo"),
    overwrite: Overwrite = False,
    threads: Threads = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    r"""Register a template brain to a copy with a known deformation, and measure the true error.

    Requires no data, but the demo extra: pip install 'maxca\[demo]'.
    """
    from maxca.demo.run import run_demo

    with progress_bar(quiet=quiet) as progress:
        found = run_demo(out, overwrite=overwrite, threads=threads, seed=seed, progress=progress)
    fall = 100 * (1 - found.error_after_mm / found.error_before_mm)
    errors = f"true error {found.error_before_mm:.2f} → {found.error_after_mm:.2f} mm ({fall:.0f} % less)"
    report(f"{found.folder}: {errors}, {found.seconds:.0f} s", quiet=quiet)
