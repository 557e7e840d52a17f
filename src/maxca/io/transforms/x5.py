"""X5, the HDF5 format of nitransforms: matrices and dense fields, RAS+ mm, fixed to moving, and chains of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np

from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.grid import triple
from maxca.io.hdf5 import X5, put_dataset
from maxca.io.transforms.composite import sealed
from maxca.io.transforms.frames import chain_between, node_positions
from maxca.io.transforms.parts import Part


def is_x5(parts: Sequence[Part]) -> bool:
    """Whether parts were read from an X5 file."""
    return bool(parts) and parts[0].kind.startswith(X5)


def chain_of(parts: Sequence[Part]) -> Chain:
    """The chain, fixed → moving world points, of the parts of an X5 file, which are in the order of application.

    Raises:
        ValueError: for an unsupported kind or invalid numbers.
    """
    chain = Chain()
    for part in parts:
        chain = _step(part) @ chain
    return chain


def write_x5(chain: Chain, path: Path) -> None:
    """Write a chain as a list of transforms and the chain of all of them."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["Format"] = "X5"
        file.attrs["Version"] = np.uint16(1)
        steps = chain.steps or (Affine.identity(),)
        for number, step in enumerate(steps):
            group = file.create_group(f"TransformGroup/{number}")
            group.attrs["ArrayLength"] = 1
            if isinstance(step, Affine):
                group.attrs["Type"], group.attrs["SubType"], group.attrs["Representation"] = (
                    "linear",
                    "affine",
                    "matrix",
                )
                put_dataset(group, "Transform", data=step.matrix)
            elif isinstance(step, DenseField):
                group.attrs["Type"], group.attrs["SubType"] = "nonlinear", "densefield"
                group.attrs["Representation"] = "displacements"
                _put_field(group, step)
            else:
                raise MaxcaError(f"{path}: X5 stores affines and dense fields; pass reference=FILE to sample the rest")
            put_dataset(group, "DimensionKinds", data=np.array(["space"] * 3 + ["vector"], dtype="S"))
        put_dataset(file, "TransformChain/0", data="/".join(str(number) for number in range(len(steps))))
    path.write_bytes(sealed(buffer.getvalue()))


def _put_field(group: h5py.Group, field: DenseField) -> None:
    vectors = field.displacement.detach().float().cpu().permute(1, 2, 3, 0).numpy()
    put_dataset(group, "Transform", data=vectors, compression="gzip", compression_opts=1, shuffle=True)
    put_dataset(group, "Domain/Grid", data=np.uint8(1))
    put_dataset(group, "Domain/Size", data=np.array(field.grid.shape))
    put_dataset(group, "Domain/Mapping", data=field.grid.affine)
    group["Domain"].attrs["Coordinates"] = "cartesian"


def _step(part: Part) -> Chain:
    kind = part.kind.removeprefix(X5)
    if kind == "linear":
        if len(part.parameters) != 16:
            raise ValueError(f"a series of matrices, or damaged: {len(part.parameters)} numbers instead of 16")
        return Chain((Affine(part.parameters.reshape(4, 4)),))
    if kind not in ("displacements", "deformations"):
        raise ValueError(f"a transform {kind[:40]!r} of X5, which is not supported; sample it as a dense field first")
    if len(part.fixed) != 19 or (part.fixed[:3] < 1).any():
        raise ValueError("damaged: its domain is not a three-dimensional grid")
    grid = Grid(triple(int(n) for n in part.fixed[:3]), part.fixed[3:].reshape(4, 4))
    if len(part.parameters) != 3 * int(np.prod(grid.shape, dtype=object)):
        raise ValueError(f"truncated or damaged: {len(part.parameters)} numbers on a grid of {grid.shape}")
    vectors = part.parameters.reshape(*grid.shape, 3).astype(np.float64)
    if not np.isfinite(vectors).all():
        raise ValueError("the displacement field contains NaN or infinite values")
    if kind == "deformations":
        vectors = vectors - node_positions(grid)
    return chain_between(vectors, grid, (np.eye(4), np.eye(4)))
