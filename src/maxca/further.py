"""Further images of the moving space, warped beside the moving one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maxca.errors import MaxcaError
from maxca.geometry import Chain
from maxca.interpolation import CHOICES, Choice, InterpolationChoice, choose
from maxca.io.atomic import full_suffix
from maxca.io.images import Image, ImageLike, read
from maxca.resampling import check_fill, fill_of, resample


@dataclass(frozen=True, eq=False)
class Further:
    """An image to warp, and how.

    Args:
        image: in moving space.
        choice: its interpolation, and why.
        fill: the value outside its field of view.
    """

    image: Image
    choice: Choice
    fill: float

    def warped(self, fixed: Image, chain: Chain) -> Image:
        """On the grid of the fixed image, in the form of its file."""
        return resample(self.image, fixed.grid, chain, self.choice.interpolation, self.fill, fixed.form)

    def as_plain(self) -> dict[str, Any]:
        """Numbers and text only."""
        return {**self.choice._asdict(), "fill": self.fill}


def read_further(apply: Sequence[ImageLike], fill: float | None) -> dict[str, Further]:
    """Read further images, by the name of the file they become.

    Args:
        apply: images, or pairs of an image and its interpolation.
        fill: the value outside their fields of view; by default the background of each. Labels are 0 there.

    Raises:
        MaxcaError: for files that cannot be read, and two that would become one file.
    """
    named: dict[str, Further] = {}
    for number, each in enumerate(apply):
        source, wanted = each if isinstance(each, tuple) else (each, "auto")
        image = read(source)
        choice = choose(image, wanted)
        name = _name(image, number)
        if name in named or name == "labels.nii.gz":
            other = named[name].image.name if name in named else "the warped labels"
            raise MaxcaError(f"{image.name} and {other} would both become warped_{name}; rename one of the files")
        labels = choice.interpolation == "labels"
        outside = fill_of(image, choice.interpolation) if fill is None or labels else fill
        check_fill(outside, image)
        named[name] = Further(image, choice, outside)
    return named


def parse_further(text: str) -> tuple[str, InterpolationChoice]:
    """``IMG:labels`` into the path and the interpolation; a path alone is ``"auto"``."""
    path, colon, last = text.rpartition(":")
    for choice in CHOICES:
        if colon and last == choice:
            return path, choice
    return text, "auto"


def _name(image: Image, number: int) -> str:
    """File name of a further warped image: that of its source, as NIfTI."""
    if image.path is None:
        return f"{number}.nii.gz"
    stem = image.path.name[: len(image.path.name) - len(full_suffix(image.path))]
    return f"{stem}.nii.gz"
