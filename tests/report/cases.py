"""Registrations that went well, folded, missed, or were of nothing in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import torch

import maxca
from maxca.engine.comparison import similarity_of
from maxca.engine.volume import Volume, normalise
from maxca.geometry import Affine, Chain, DenseField
from maxca.io.images import Image
from maxca.registration.assessment import overlap, regularity
from maxca.registration.inputs import Side
from maxca.registration.record import Compared
from maxca.registration.resampling import resample
from maxca.registration.result import Result


def write_pair(folder: Path, fixed_name: str = "fixed.nii.gz") -> dict[str, str]:
    """Images, labels and landmarks of a bent scene and the scene itself; what ``register`` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    where = phantoms.grid()
    points = np.random.default_rng(0).uniform(-12, 12, (6, 3))
    np.savetxt(folder / "fixed.csv", points, delimiter=",", header="x,y,z", comments="")
    np.savetxt(folder / "moving.csv", phantoms.bend(points), delimiter=",", header="x,y,z", comments="")
    return {
        "fixed": str(phantoms.save(folder / fixed_name, phantoms.image(where, phantoms.bend))),
        "moving": str(phantoms.save(folder / "moving.nii.gz", phantoms.image(where))),
        "fixed_labels": str(
            phantoms.save(folder / "fixed_labels.nii.gz", phantoms.image(where, phantoms.bend, phantoms.regions))
        ),
        "moving_labels": str(
            phantoms.save(folder / "moving_labels.nii.gz", phantoms.image(where, what=phantoms.regions))
        ),
    }


def good(folder: Path) -> Path:
    """Found by ``register``."""
    return maxca.register(**write_pair(folder / "in"), model="none").save(folder / "good")


def folded(folder: Path) -> Path:
    """What was found, and then a fold in a corner of the ball."""
    result = maxca.register(**write_pair(folder / "in"), model="none", effort="fast")
    grid = phantoms.grid()
    distance = np.linalg.norm(phantoms.nodes(grid) - np.array([10.0, 0, 0]), axis=-1)
    displacement = torch.zeros(3, *grid.shape)
    displacement[0] = torch.as_tensor(-2.0 * (phantoms.nodes(grid)[..., 0] - 10) * np.exp(-((distance / 14) ** 2)))
    return told(result, result.chain @ Chain((DenseField(displacement, grid),))).save(folder / "folded")


def misaligned(folder: Path) -> Path:
    """What was found, and then 12 mm to the left."""
    result = maxca.register(**write_pair(folder / "in"), model="none", effort="fast")
    shift = np.eye(4)
    shift[0, 3] = -12.0
    return told(result, result.chain @ Chain((Affine(shift),))).save(folder / "misaligned")


def failed(folder: Path) -> Path:
    """Of a ball and of noise."""
    where = phantoms.grid()
    noise = np.random.default_rng(0).integers(0, 500, where.shape).astype(np.int16)
    (folder / "in").mkdir(parents=True, exist_ok=True)
    pair = phantoms.image(where), Image(noise, where)
    paths = [str(phantoms.save(folder / "in" / f"{name}.nii.gz", one)) for name, one in zip("ab", pair, strict=True)]
    return maxca.register(*paths, model="none", effort="fast").save(folder / "failed")


def told(result: Result, chain: Chain) -> Result:
    """The result with another map, and the record of what that map is worth; the way back stays."""
    sides = {}
    for side in ("fixed", "moving"):
        image, labels = (maxca.read_image(result.record.inputs[side + what].path) for what in ("", "_labels"))
        sides[side] = Side(image, labels=labels.data)
    fixed, moving = sides["fixed"].image, sides["moving"].image
    volumes = [Volume(normalise(torch.as_tensor(one.data.astype(np.float32))), one.grid) for one in (fixed, moving)]
    labels = replace(moving, data=sides["moving"].labels)
    scores = similarity_of(*volumes, "lncc", {"before": Chain(), "after": chain})
    folding, consistency = regularity(chain, result.inverse, volumes[0], 1)
    metrics = replace(
        result.record.metrics,
        similarity=Compared("lncc", **scores),
        folding=folding,
        inverse_consistency_mm=consistency,
        **overlap(sides["fixed"], sides["moving"], chain),
    )
    return replace(
        result,
        chain=chain,
        warped=resample(moving, fixed.grid, chain),
        warped_labels=resample(labels, fixed.grid, chain, "labels"),
        record=replace(result.record, metrics=metrics),
    )
