"""What a report is about: an output folder of ``register``, and the images it was made from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maxca.engine.volume import foreground
from maxca.errors import MaxcaError
from maxca.geometry import Chain
from maxca.io.digest import sha256
from maxca.io.images import read
from maxca.io.regular import check_regular
from maxca.io.transforms import read_transform
from maxca.registration.inputs import Side, paired_points, read_side
from maxca.report.record import read_record

ROLES = ("", "_mask", "_labels", "_points")


@dataclass(frozen=True, eq=False)
class Case:
    """One registration.

    Args:
        name: to call it by.
        record: what ``result.json`` holds.
        fixed: the fixed image and what belongs to it.
        moving: the moving one.
        chain: fixed world points → moving world points.
        inverse: moving world points → fixed world points.
        warped_labels: the moving labels on the fixed grid.
        folder: what ``register`` wrote.
    """

    name: str
    record: dict[str, Any]
    fixed: Side
    moving: Side
    chain: Chain
    inverse: Chain
    warped_labels: np.ndarray | None
    folder: Path

    @cached_property
    def content(self) -> np.ndarray:
        """(N, 3) voxels of the fixed image that are brighter than its background; all, where none is."""
        return np.argwhere(foreground(self.fixed.image.data))


def read_case(
    folder: str | Path,
    fixed: str | Path | None = None,
    moving: str | Path | None = None,
    name: str | None = None,
    others: Mapping[str, Path] | None = None,
) -> Case:
    """Read an output folder and the images behind it.

    Args:
        folder: what ``maxca register`` wrote.
        fixed: where the fixed image is now, if not where it was.
        moving: where the moving image is now, if not where it was.
        name: to call it by; by default that of the folder.
        others: where masks, labels and points are now, by role (``"fixed_mask"``, …), if not where they were.

    Raises:
        MaxcaError: for another folder, for files that are gone or have changed since, and for a role that none had.
    """
    others = others or {}
    place = Path(folder)
    record = read_record(place)
    known = {role: (file["path"], file["sha256"]) for role, file in record["inputs"].items()}
    for role in others.keys() - known.keys():
        raise MaxcaError(f"{folder}: was made without {role.replace('_', ' ')}; leave --{role.replace('_', '-')} out")
    sides = {}
    for side, given in (("fixed", fixed), ("moving", moving)):
        found = [_found(known, side + role, others.get(side + role) if role else given) for role in ROLES]
        if found[0] is None:
            raise MaxcaError(f"{folder}: was not made from files; say where the {side} image is: --{side} FILE")
        image, mask, labels, points = found
        sides[side] = read_side(side, image, mask, labels, points)
    fixed_side, moving_side = paired_points(sides["fixed"], sides["moving"])
    labels = place / "warped_labels.nii.gz"
    return Case(
        name or place.resolve().name,
        record,
        fixed_side,
        moving_side,
        read_transform(place / "transform.h5"),
        read_transform(place / "inverse_transform.h5"),
        read(labels).data if labels.is_file() else None,
        place,
    )


def _found(known: Mapping[str, tuple[str, str]], role: str, given: str | Path | None) -> Path | None:
    """The file that played a role, if it is still what it was."""
    if role not in known:
        return None if given is None else Path(given)
    recorded, digest = known[role]
    path = Path(given or recorded)
    if not os.path.exists(path):  # not Path.exists, which fails for names that no file can have
        raise MaxcaError(f"{path}: no longer there; say where it is now: --{role.replace('_', '-')} FILE")
    if not path.is_dir():  # a folder is a DICOM series
        check_regular(path)  # a pipe or a device would be read for ever
    if sha256(path) != digest:
        raise MaxcaError(f"{path}: has changed since it was registered; register again, or name the old file")
    return path
