"""``maxca register``: two scans in, a folder of results out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from maxca.cli.options import MACHINE, Fill, MatrixConvention, Overwrite, Quiet, Seed, Threads
from maxca.cli.repeat import absolute, anywhere, repeated
from maxca.cli.terminal import note, progress_bar, report, warn

EXAMPLE = "Example:  maxca register -f atlas_T1.nii.gz -m patient_T1.nii.gz -o patient_on_atlas"
MODELS = ("auto", "none")
IMAGES, METHOD, REGIONS, OUTPUT = "Images", "Method", "Masks, labels and points", "Output"


def _model(name: str) -> str:
    from maxca.errors import MaxcaError
    from maxca.models.zoo import find_model

    if name in MODELS or name.startswith("hf://"):
        return name
    try:
        find_model(name)
    except MaxcaError as error:
        raise typer.BadParameter(str(error)) from error
    return name


def _with_report(wanted: bool) -> bool:
    from importlib.util import find_spec

    if wanted and not all(map(find_spec, ("jinja2", "matplotlib"))):
        raise typer.BadParameter("a report needs more packages: pip install 'maxca[report]'")
    return wanted


def _image(*names: str, help: str, panel: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False)


def register(
    context: typer.Context,
    fixed: Annotated[
        Path, _image("--fixed", "-f", panel=IMAGES, help="The image that stays: its space and grid are kept.")
    ],
    moving: Annotated[
        Path, _image("--moving", "-m", panel=IMAGES, help="The image that is warped onto the fixed one.")
    ],
    out: Annotated[Path, _image("--output", "-o", panel=OUTPUT, help="The folder to make; nothing else is written.")],
    apply: Annotated[
        list[str] | None,
        _image(
            "--apply",
            panel=IMAGES,
            help="A further image of the moving space to warp; may be repeated. Label maps are recognised, and the log "
            "says so; FILE:labels (or linear, nearest, bspline) decides it.",
        ),
    ] = None,
    fill: Fill = None,
    model: Annotated[
        str,
        typer.Option(
            callback=_model,
            rich_help_panel=METHOD,
            help="A trained network, whose answer is then refined on the pair: a file (.safetensors), a name that "
            "maxca models list knows, or hf://OWNER/NAME on Hugging Face; none: the pair itself is optimised; auto: "
            "one that comes along, if it was made for such images and proves itself on the pair.",
        ),
    ] = "auto",
    transform: Annotated[
        Literal["deformable", "affine", "rigid"],
        typer.Option(
            rich_help_panel=METHOD, help="What may happen to the moving image; deformable includes an affine."
        ),
    ] = "deformable",
    initial_transform: Annotated[
        str | None,
        _image(
            "--initial-transform",
            panel=METHOD,
            help="Where to start: a transform file, [bold]header[/bold] (as the images lie in the world) or "
            "[bold]center[/bold] (centres of mass on each other). Unless given, both are tried.",
        ),
    ] = None,
    matrix_convention: MatrixConvention = None,
    effort: Annotated[
        Literal["fast", "balanced", "accurate"], typer.Option(rich_help_panel=METHOD, help="Time against accuracy.")
    ] = "balanced",
    similarity: Annotated[
        Literal["lncc", "mi", "mse"],
        typer.Option(
            rich_help_panel=METHOD,
            help="What the deformation maximises: lncc (one kind of scan), mi (two kinds, such as T1 and T2) or mse "
            "(same scanner and units). The affine copes with all.",
        ),
    ] = "lncc",
    smoothness: Annotated[
        float | None,
        _image(
            "--smoothness", panel=METHOD, help="How far, in mm, a point takes its neighbours along; larger is smoother."
        ),
    ] = None,
    fixed_mask: Annotated[
        Path | None, _image("--fixed-mask", panel=REGIONS, help="Non-zero where the fixed image counts.")
    ] = None,
    moving_mask: Annotated[
        Path | None, _image("--moving-mask", panel=REGIONS, help="Non-zero where the moving image counts.")
    ] = None,
    fixed_labels: Annotated[
        Path | None,
        _image(
            "--fixed-labels", panel=REGIONS, help="Labels of the fixed image, to measure Dice; never used to align."
        ),
    ] = None,
    moving_labels: Annotated[
        Path | None,
        _image("--moving-labels", panel=REGIONS, help="Labels of the moving image, to warp; never used to align."),
    ] = None,
    fixed_points: Annotated[
        Path | None,
        _image("--fixed-points", panel=REGIONS, help="Landmarks (.csv, .fcsv, .mrk.json), to measure the error in mm."),
    ] = None,
    moving_points: Annotated[
        Path | None,
        _image(
            "--moving-points",
            panel=REGIONS,
            help="The same landmarks in the moving image: by name where both files name them, else row by row.",
        ),
    ] = None,
    save_field: Annotated[
        bool,
        typer.Option("--save-field", rich_help_panel=OUTPUT, help="Also write displacement.nii.gz on the fixed grid."),
    ] = False,
    html_report: Annotated[
        bool,
        typer.Option(
            "--report",
            callback=_with_report,
            rich_help_panel=OUTPUT,
            help="Also write report.html: pictures of the result, and whether to trust it.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(rich_help_panel=MACHINE, help="auto takes the GPU if there is one."),
    ] = "auto",
    threads: Threads = None,
    seed: Seed = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the stages as they come.")] = False,
    quiet: Quiet = False,
) -> None:
    """Warp a [bold]moving[/bold] image (-m) onto a [bold]fixed[/bold] one (-f).

    Images are NIfTI, MHA or NRRD files, or a folder with one DICOM series; 3-D, or 2-D, registered in the plane.

    The output folder holds warped.nii.gz (the moving image on the fixed grid), transform.h5 (resamples moving onto
    fixed in antsApplyTransforms, SimpleITK and Slicer), inverse_transform.h5 (the way back) and result.json (what was
    done, and how well); with labels also warped_labels.nii.gz, and warped_NAME for each --apply.
    """
    from maxca.io.atomic import output_folder
    from maxca.registration.additional import parse_further
    from maxca.registration.register import register as run

    with output_folder(out, overwrite) as place, progress_bar(quiet=quiet, verbose=verbose) as progress:
        result = run(
            fixed,
            moving,
            model=model,
            transform=transform,
            initial_transform=initial_transform,
            matrix_convention=matrix_convention,
            effort=effort,
            similarity=similarity,
            smoothness=smoothness,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            fixed_points=fixed_points,
            moving_points=moving_points,
            apply=tuple(parse_further(each) for each in apply or ()),
            fill=fill,
            device=device,
            threads=threads,
            seed=seed,
            progress=progress,
        )
        result.record["command"] = _again(context, result.record["settings"]["threads"])
        progress("writing", 0.99)
        result.write_into(place, save_field=save_field)
        if html_report:
            from maxca.report.case import read_case
            from maxca.report.html import REPORT, write_report

            progress("reporting", 0.995)
            verdict = write_report(read_case(place, name=out.resolve().name), place / REPORT)
    warn(result.warnings)
    for name, how in result.record["applied"].items():
        note(f"warped_{name}: interpolation {how['interpolation']}, {how['reason']}", quiet=quiet)
    if verbose:
        note(f"affine: {result.record['affine']['reason']}", quiet=quiet)
        note(f"model: {result.record['settings']['model_reason']}", quiet=quiet)
    report(_summary(out, result.record), quiet=quiet)
    if html_report:
        report(f"{out / REPORT}: {verdict.state}", quiet=quiet)


def _again(context: typer.Context, threads: int) -> str:
    """The command that makes the same files again, from any folder."""
    from maxca.models.zoo import shipped
    from maxca.registration.additional import parse_further

    def model(name: str) -> str:
        return name if name in (*MODELS, *shipped()) or name.startswith("hf://") else absolute(name)

    def further(text: str) -> str:
        path = parse_further(text)[0]
        return absolute(path) + text[len(path) :]

    names = {"model": model, "apply": further, "initial_transform": anywhere("header", "center")}
    return repeated(context, names, overwrite=True, threads=threads)


def _summary(out: Path, record: dict[str, Any]) -> str:
    """One line: where the files are, and how well it went."""
    metrics = record["metrics"]
    score = metrics["similarity"]
    parts = [f"{score['name']} {score['before']:.3f} → {score['after']:.3f}"]
    for title, key, unit in (("Dice", "dice", ""), ("HD95", "hd95_mm", " mm"), ("landmarks", "tre_mm", " mm")):
        before, after = (metrics.get(f"{key}_{when}", {}).get("mean") for when in ("before", "after"))
        if before is not None and after is not None:
            parts.append(f"{title} {before:.3g} → {after:.3g}{unit}")
    parts.append(f"folding {metrics['folding']['ndv_percent']:.2g} %")
    if record["settings"]["model"] != "none":
        parts.append(f"model {record['network']['name']}{'' if record['network']['taken'] else ' left out'}")
    parts.append(f"{sum(record['seconds'].values()):.1f} s")
    return f"{out}: {', '.join(parts)}"
