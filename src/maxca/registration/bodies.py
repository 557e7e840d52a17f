"""Parts of an image that do not bend: their masks, and the motion that was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from maxca.engine.bodies import Bodies, Body, BodyKind, fitted
from maxca.engine.volume import Volume
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image
from maxca.registration.exclusion import box_of, volumes_ml
from maxca.registration.labels import labels_of
from maxca.registration.measures import BodyMotion

FEWEST = 8  # voxels of a body
GAP = 2  # voxels: where another body is nearer, a body is not held
MARGIN = 16  # voxels around a body: what the smoothing of its mask needs
MEASURED = 200_000  # most voxels at which the departure from the motion is measured


@dataclass(frozen=True, eq=False)
class BodyPart:
    """A body of one image.

    Args:
        name: its label, or ``"fixed exclude"``.
        region: (I, J, K) bool.
        grid: of the region.
        kind: see ``engine.bodies.Body``.
        moving: it is a part of the moving image.
    """

    name: str
    region: np.ndarray
    grid: Grid
    kind: BodyKind = "rigid"
    moving: bool = False

    def body(self, device: torch.device) -> Body:
        """For the engine."""
        box = box_of(self.region, MARGIN)
        values = torch.as_tensor(self.region[box], dtype=torch.float32, device=device)
        around = self.grid.box([side.start for side in box], [side.stop for side in box])
        return Body(Volume(values, around), self.kind, self.moving)


class Separated(NamedTuple):
    """Labels of bodies that do not touch, and a warning where they did."""

    labels: np.ndarray
    warnings: tuple[str, ...]


def bodies_of(image: Image, scan: Image) -> Separated:
    """The labels of rigid bodies, apart from each other.

    Args:
        image: labels, each a body, on the grid of its image.
        scan: its image.

    Raises:
        MaxcaError: for labels that are empty, too small, or everything.
    """
    labels = labels_of(image)
    names = [int(name) for name in np.unique(labels) if name != 0]
    if not names:
        raise MaxcaError(f"{image.name}: marks no rigid body; mark each with its own label, from 1 up, or remove it")
    for name in names:
        inside = labels == name
        if inside.all():
            raise MaxcaError(f"{image.name}: label {name} covers all of {scan.name}; use transform=rigid instead")
        _check_size(inside, image, name)
    apart = labels.copy()
    released = {name: _release(labels, apart, name) for name in names} if len(names) > 1 else {}
    touching = [str(name) for name, count in released.items() if count]
    for name in map(int, touching):
        _check_size(apart == name, image, name, f" farther than {GAP} voxels from the others")
    if not touching:
        return Separated(labels, ())
    warning = (
        f"{image.name}: the rigid bodies {', '.join(touching)} touch or nearly do, so that they may bend within {GAP} "
        f"voxels of each other ({sum(released.values())} voxels)"
    )
    return Separated(apart, (warning,))


def _check_size(inside: np.ndarray, image: Image, name: int, where: str = "") -> None:
    found = np.argwhere(inside)
    spread = np.linalg.svd(found - found.mean(axis=0), compute_uv=False) if len(found) >= FEWEST else np.zeros(2)
    if len(found) < FEWEST or spread[1] < 1:
        line = " on a line" if len(found) >= FEWEST else ""
        raise MaxcaError(
            f"{image.name}: label {name} of the rigid bodies has {len(found)} voxels{line}{where}, too few for a "
            f"motion; mark at least {FEWEST} that are not on a line"
        )


def _release(labels: np.ndarray, apart: np.ndarray, name: int) -> int:
    """Remove the voxels of a body near other bodies; their number."""
    box = box_of(labels == name, GAP)
    others = (labels[box] != 0) & (labels[box] != name)
    if not others.any():
        return 0
    near = ndimage.binary_dilation(others, np.ones((3, 3, 3)), GAP) & (labels[box] == name)
    apart[box][near] = 0
    return int(np.count_nonzero(near))


def engine_bodies(parts: Sequence[BodyPart], affine: Affine, device: torch.device) -> Bodies:
    """The bodies as a constraint of the deformation.

    Args:
        parts: the bodies.
        affine: fixed world points → moving world points, applied after the field.
        device: of the deformation.
    """
    return Bodies([part.body(device) for part in parts], affine)


def motion_of(part: BodyPart, chain: Chain, unit: float) -> BodyMotion:
    """The motion of a body under a map, and how far the map departs from it.

    Args:
        part: the body.
        chain: world points of its image → those of the other one.
        unit: of the departure, mm.
    """
    index = np.argwhere(part.region)
    points = part.grid.to_world(index[:: -(-len(index) // MEASURED)])
    ends = chain.map_points(points)
    thin = part.grid.thin_axes
    motion = fitted(points, ends, part.kind, part.grid.direction[:, thin[0]] if thin else None)
    departure = np.linalg.norm(motion.map_points(points) - ends, axis=1)
    left, _, right = np.linalg.svd(motion.matrix[:3, :3])
    cosine = float(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))
    ml, mapped = volumes_ml(part.region, part.grid, chain)
    return BodyMotion(
        kind=part.kind,
        ml=ml,
        mapped_ml=mapped,
        degrees=float(np.degrees(np.arccos(cosine))),
        mm=float(np.linalg.norm(ends.mean(axis=0) - points.mean(axis=0))),
        departure_voxels=float(departure.max() / unit),
    )
