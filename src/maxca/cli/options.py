"""Options shared by several commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

MACHINE = "Machine"

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, rich_help_panel=MACHINE, help="CPU threads; by default one per core."),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        rich_help_panel=MACHINE,
        help="Random seed; the output is reproducible for a given seed and thread count.",
    ),
]
_TRANSFORMS = typer.Option(
    "--transform",
    "-t",
    help="A transform; repeatable. As in antsApplyTransforms, a point of the reference passes through the "
    "first one first, and \\[FILE,1] is the inverse of an affine.",
)
Transforms = Annotated[list[Path], _TRANSFORMS]
OptionalTransforms = Annotated[list[Path] | None, _TRANSFORMS]
MatrixConvention = Annotated[
    Literal["ras", "fsl"] | None,
    typer.Option(
        "--matrix-convention",
        help="Convention of a text file with a bare 4x4 matrix. ras: fixed to moving, RAS mm (greedy, "
        "NiftyReg). fsl: FLIRT's -omat, if both its images are given.",
    ),
]
Fill = Annotated[
    float | None,
    typer.Option(
        "--fill",
        help="The value outside the field of view of the moving image; by default its background (0 in most MR images, "
        "-1024 in CT). Labels are always 0 there.",
        show_default=False,
    ),
]
EXTENSIONS = ".h5, .tfm, .txt, .mat, or a displacement .nii.gz"
READ_EXTENSIONS = f"{EXTENSIONS}, .mha or .nrrd"


def help_of(command: Callable[..., None]) -> str:
    """The docstring of a command with one line per paragraph, to be wrapped by the terminal."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
