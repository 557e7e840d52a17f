"""Application of transforms to an image file of two, three or four dimensions."""

from __future__ import annotations

from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.images import check_grid, read, write
from maxca.io.series import check_series_path, open_series
from maxca.registration.interpolation import Choice, InterpolationChoice, choose
from maxca.registration.resampling import apply
from maxca.registration.volumes import Motion, apply_series


def warp_file(
    image: Path,
    reference: Path,
    out: Path,
    motion: Motion,
    interpolation: InterpolationChoice = "auto",
    fill: float | None = None,
    *,
    modulate: bool = False,
) -> tuple[Choice, tuple[str, ...]]:
    """Resample an image file onto the grid of a reference and write the result.

    Args:
        image: in moving space; a 4-D image is resampled a volume at a time.
        reference: in fixed space.
        out: the file to write.
        motion: the transforms.
        interpolation: see ``maxca.apply``.
        fill: the value outside the field of view of the image.
        modulate: see ``maxca.apply``.

    Returns:
        The interpolation, and warnings, one line each.

    Raises:
        MaxcaError: for files that cannot be read or written.
    """
    target = read(reference)
    check_grid(out, target.grid)
    series = open_series(image)
    if series is not None:
        check_series_path(out)
        choice = choose(series.first, interpolation)
        warped_series = apply_series(series, target, motion, choice.interpolation, fill, modulate=modulate)
        return choice, warped_series.save(out)
    if motion.each:
        raise MaxcaError(f"{image}: not a 4-D image in NIfTI or MGH format, so it has no transforms of volumes")
    source = read(image)
    choice = choose(source, interpolation)
    warped = apply(source, target, motion.common, choice.interpolation, motion.matrix_convention, fill, modulate)
    write(warped.data, warped.grid, out, form=warped.form, intent=warped.intent)
    return choice, (*source.warnings, *warped.warnings)
