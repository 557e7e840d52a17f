"""Additional images in moving space, warped together with the moving image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maxca.geometry import Chain
from maxca.io.atomic import full_suffix
from maxca.io.images import Image, ImageLike, read
from maxca.io.series import Series, open_series
from maxca.registration.interpolation import CHOICES, Choice, InterpolationChoice, choose
from maxca.registration.record import Applied
from maxca.registration.resampling import check_fill, fill_of, resample
from maxca.registration.volumes import Motion, WarpedSeries

SUFFIX = ".nii.gz"
LABELS = f"labels{SUFFIX}"  # the name of the warped labels


@dataclass(frozen=True, eq=False)
class AdditionalImage:
    """An image to warp and its settings.

    Args:
        image: in moving space; of a 4-D image, its first volume.
        choice: its interpolation, and the reason.
        fill: the value outside its field of view.
        warnings: corrections made on reading, and its output name if that was changed.
        series: all volumes of a 4-D image.
    """

    image: Image
    choice: Choice
    fill: float
    warnings: tuple[str, ...] = ()
    series: Series | None = None

    def warped(self, fixed: Image, chain: Chain) -> Image | WarpedSeries:
        """The image resampled on the fixed grid, with the header fields of the fixed file.

        The volumes of a 4-D image are resampled when they are written.
        """
        if self.series is not None:
            return WarpedSeries(self.series, fixed, Motion(chain), self.choice.interpolation, self.fill)
        return resample(self.image, fixed.grid, chain, self.choice.interpolation, self.fill, fixed.form)

    def as_applied(self) -> Applied:
        """Entry of the record."""
        return Applied(str(self.choice.interpolation), self.choice.reason, float(self.fill))


def read_additional(
    apply: Sequence[ImageLike], fill: float | None, channels: Sequence[Image] = ()
) -> dict[str, AdditionalImage]:
    """Read additional images, by the name of their output file.

    Args:
        apply: images, or pairs of an image and its interpolation.
        fill: the value outside their fields of view; by default the background of each. Labels are 0 there.
        channels: of the moving side after the first, which come first.

    Returns:
        By name; a second file of the same name, or of that of the warped labels, gets a number.

    Raises:
        MaxcaError: for files that cannot be read, or a fill value outside the range of their type.
    """
    named = _channels(channels, fill)
    for number, each in enumerate(apply):
        source, wanted = each if isinstance(each, tuple) and isinstance(each[1], str) else (each, "auto")
        series = open_series(source) if isinstance(source, str | Path) else None
        image = read(source) if series is None else series.first
        choice = choose(image, wanted)
        wished = _name(image, str(number))
        name = _free(wished, {*named, LABELS})
        renamed = (f"{image.name}: warped_{wished} is another image, so it is named warped_{name}",)
        labels = choice.interpolation == "labels"
        outside = fill_of(image, choice.interpolation) if fill is None or labels else fill
        check_fill(outside, image)
        warnings = (image.warnings if series is None else ()) + (renamed if name != wished else ())
        named[name] = AdditionalImage(image, choice, outside, warnings, series)
    return named


def _channels(channels: Sequence[Image], fill: float | None) -> dict[str, AdditionalImage]:
    """The further channels of the moving side, by the name of their output file."""
    named: dict[str, AdditionalImage] = {}
    for number, image in enumerate(channels, start=2):
        name = _free(_name(image, f"channel_{number}"), {*named, LABELS})
        outside = fill_of(image, "linear") if fill is None else fill
        check_fill(outside, image)
        named[name] = AdditionalImage(image, Choice("linear", f"channel {number}"), outside)
    return named


def parse_additional(text: str) -> tuple[str, InterpolationChoice]:
    """Split ``IMG:labels`` into path and interpolation; ``"auto"`` without one."""
    path, colon, last = text.rpartition(":")
    for choice in CHOICES:
        if colon and last == choice:
            return path, choice
    return text, "auto"


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of ``STEM_2``, ``STEM_3``, … that is unused."""
    stem = name.removesuffix(SUFFIX)
    numbered = (f"{stem}_{number}{SUFFIX}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _name(image: Image, unnamed: str) -> str:
    """Output name of an additional image: that of its source, as NIfTI, or ``unnamed`` without a source."""
    if image.path is None:
        return f"{unnamed}{SUFFIX}"
    stem = image.path.name[: len(image.path.name) - len(full_suffix(image.path))]
    return f"{stem}{SUFFIX}"
