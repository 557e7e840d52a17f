"""What a registration returns: transforms, images, and the record of how they came about."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maxca.geometry import Chain, Grid
from maxca.io.atomic import output_folder
from maxca.io.images import Image, write
from maxca.io.transforms import write_transform


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of ``maxca.register``.

    Args:
        chain: fixed world points → moving world points, RAS+ mm: what resamples the moving image onto the fixed one.
        inverse: moving world points → fixed world points.
        fixed_grid: the grid of the fixed image.
        warped: the moving image on the fixed grid, in its own data type.
        warped_labels: the moving labels on the fixed grid, if labels were given.
        applied: further images of the moving space on the fixed grid, by name.
        record: everything that ``result.json`` holds.
    """

    chain: Chain
    inverse: Chain
    fixed_grid: Grid
    warped: Image
    warped_labels: Image | None = None
    applied: dict[str, Image] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, Any]:
        """Similarity before and after, folding, residual of the inverse; Dice, HD95 and TRE if asked for."""
        return self.record["metrics"]

    @property
    def warnings(self) -> list[str]:
        """What the user should know, one line each."""
        return self.record["warnings"]

    def save(self, folder: str | Path, *, overwrite: bool = False, save_field: bool = False) -> Path:
        """Write the output folder: all of it, or nothing.

        Args:
            folder: where to; missing parents are made.
            overwrite: replace an earlier output.
            save_field: also write ``displacement.nii.gz``, the whole map on the fixed grid (5-D, intent 1007, LPS mm).

        Returns:
            The folder.

        Raises:
            MaxcaError: when it exists and ``overwrite`` is not set, or cannot be written.
        """
        with output_folder(folder, overwrite) as place:
            self.write_into(place, save_field=save_field)
        return Path(folder)

    def write_into(self, place: Path, *, save_field: bool = False) -> None:
        """Write the files of the output folder into an existing one."""
        _write(self.warped, place / "warped.nii.gz")
        write_transform(self.chain, place / "transform.h5")
        write_transform(self.inverse, place / "inverse_transform.h5")
        if self.warped_labels is not None:
            _write(self.warped_labels, place / "warped_labels.nii.gz")
        for name, image in self.applied.items():
            _write(image, place / f"warped_{name}")
        if save_field:
            write_transform(self.chain, place / "displacement.nii.gz", grid=self.fixed_grid)
        record = finite(json.loads(json.dumps(self.record, default=_plain)))
        text = json.dumps(record, indent=2, allow_nan=False)
        (place / "result.json").write_text(text + "\n", encoding="utf-8")


def _write(image: Image, path: Path) -> None:
    write(image.data, image.grid, path, form=image.form, intent=image.intent)


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know: NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays, and paths, as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} to JSON")
