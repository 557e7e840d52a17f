"""The input of a report: an output folder of ``register`` and its images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from maxca.engine.volume import foreground
from maxca.errors import MaxcaError
from maxca.geometry import Chain
from maxca.io.digest import sha256
from maxca.io.images import read
from maxca.io.regular import check_regular
from maxca.io.transforms import read_transform
from maxca.registration.inputs import Side, paired_points, read_side, source_names
from maxca.registration.record import Record, read_record


@dataclass(frozen=True, eq=False)
class Case:
    """One registration.

    Args:
        name: shown on the page.
        record: content of ``result.json``.
        fixed: the fixed image with its mask, labels and points.
        moving: the moving image with its mask, labels and points.
        chain: fixed world points → moving world points.
        inverse: moving world points → fixed world points.
        warped_labels: the moving labels on the fixed grid.
        folder: the output of ``register``.
    """

    name: str
    record: Record
    fixed: Side
    moving: Side
    chain: Chain
    inverse: Chain
    warped_labels: np.ndarray | None
    folder: Path

    @cached_property
    def content(self) -> np.ndarray:
        """(N, 3) foreground voxels of the fixed image; all voxels if there is no foreground."""
        return np.argwhere(foreground(self.fixed.image.data))


def read_case(
    folder: str | Path,
    fixed: str | Path | None = None,
    moving: str | Path | None = None,
    name: str | None = None,
    others: Mapping[str, Path] | None = None,
) -> Case:
    """Read an output folder and its images.

    Args:
        folder: the output of ``maxca register``.
        fixed: new path of the fixed image, if it was moved.
        moving: new path of the moving image, if it was moved.
        name: shown on the page; by default that of the folder.
        others: new paths of masks, labels and points, by role (``"fixed_mask"``, …), if they were moved.

    Raises:
        MaxcaError: for another folder, for files that are missing or have changed, and for a role that was not used.
    """
    others = others or {}
    place = Path(folder)
    record = read_record(place)
    known = {role: (file.path, file.sha256) for role, file in record.inputs.items()}
    for role in others.keys() - known.keys():
        raise MaxcaError(f"{folder}: was created without {role.replace('_', ' ')}; remove {role}=FILE")
    sides = {}
    for side, given in (("fixed", fixed), ("moving", moving)):
        names = source_names(side)
        found = {role: _found(known, name, given if name == side else others.get(name)) for role, name in names.items()}
        image = found.pop("image")
        if image is None:
            raise MaxcaError(f"{folder}: was not created from files; pass the path of the {side} image: {side}=FILE")
        sides[side] = read_side(side, image, **found)
    fixed_side, moving_side = paired_points(sides["fixed"], sides["moving"])
    labels, inverse = place / "warped_labels.nii.gz", place / "inverse_transform.h5"
    chain = read_transform(place / "transform.h5")
    return Case(
        name or place.resolve().name,
        record,
        fixed_side,
        moving_side,
        chain,
        read_transform(inverse) if os.path.lexists(inverse) else chain.inverse()[0],
        read(labels).data if labels.is_file() else None,
        place,
    )


def _found(known: Mapping[str, tuple[str, str]], role: str, given: str | Path | None) -> Path | None:
    """The file of a role, if it is unchanged."""
    if role not in known:
        return None if given is None else Path(given)
    recorded, digest = known[role]
    path = Path(given or recorded)
    if not os.path.exists(path):  # not Path.exists, which fails for invalid names
        raise MaxcaError(f"{path}: does not exist any more; pass its new path: {role}=FILE")
    if not path.is_dir():  # a folder is a DICOM series
        check_regular(path)  # a pipe or a device may never end
    if sha256(path) != digest:
        raise MaxcaError(f"{path}: has changed since it was registered; register again, or pass the original file")
    return path
