"""Surfaces: meshes whose vertices a transform moves; the rest of a file is kept as it is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from maxca.errors import MaxcaError
from maxca.io.atomic import full_suffix
from maxca.io.regular import check_regular, read_bytes
from maxca.io.space import ASK, SIGNS, Space, declared_in, known_space
from maxca.io.surfaces import freesurfer
from maxca.io.surfaces.freesurfer import read_freesurfer
from maxca.io.surfaces.gifti import read_gifti, read_packed_gifti
from maxca.io.surfaces.mesh import Mesh, Unreadable
from maxca.io.surfaces.obj import read_obj
from maxca.io.surfaces.ply import read_ply
from maxca.io.surfaces.stl import read_stl
from maxca.io.surfaces.vtk import read_vtk
from maxca.io.surfaces.vtp import read_vtp

COMMENT = 1 << 12  # bytes at the beginning of a file in which a comment declares the coordinate system
Reader = Callable[[bytes], Mesh | tuple[Mesh, bytes]]  # with the comment, if it may be elsewhere
READERS: dict[str, Reader] = {
    ".gii": read_gifti,
    ".gii.gz": read_packed_gifti,
    ".vtk": read_vtk,
    ".vtp": read_vtp,
    ".ply": read_ply,
    ".stl": read_stl,
    ".obj": read_obj,
}
SUFFIXES = tuple(READERS)
FREESURFER = (freesurfer.MAGIC, *freesurfer.QUADRANGLES)
READ_ERRORS = (ValueError, KeyError, IndexError, OverflowError, TypeError, struct.error)


def is_surface(path: Path) -> bool:
    """Whether a file is a surface by its suffix, or by its first bytes, because FreeSurfer's have no suffix.

    Raises:
        MaxcaError: for a file that is missing, or cannot be read.
    """
    if full_suffix(path) in SUFFIXES:
        return True
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(3) in FREESURFER
    except OSError as error:
        raise MaxcaError(f"{path}: cannot be read; check its permissions") from error


def read_surface(path: Path, space: Space | None = None) -> Mesh:
    """The vertices of a surface, with the map from its coordinates to world RAS+ mm.

    Args:
        path: GIFTI, FreeSurfer's triangles, VTK, VTP, PLY, STL or OBJ.
        space: coordinates of a file that does not declare them.

    Raises:
        MaxcaError: for a file that is damaged or of another kind, one that does not declare its coordinates without
            ``space``, or one that declares others.
    """
    content = read_bytes(path)
    try:
        found = READERS.get(full_suffix(path), read_freesurfer)(content)
        mesh, comment = found if isinstance(found, tuple) else (found, content[:COMMENT])
    except Unreadable as error:
        raise MaxcaError(f"{path}: {error}") from error
    except READ_ERRORS as error:
        raise MaxcaError(f"{path}: a surface that is damaged, or of another kind; copy or export it again") from error
    declared = None if mesh.frame is not None else declared_in(comment)
    given = space.upper() if space else None
    if mesh.frame is not None:
        if space is not None:
            raise MaxcaError(f"{path}: its header defines its coordinates; leave out space={space}")
        return mesh
    if declared and given and declared != given:
        raise MaxcaError(f"{path}: declares coordinates in {declared[:10]}; leave out space={space}")
    if not declared and not given:
        raise MaxcaError(f"{path}: does not declare its coordinate system; {ASK}")
    signs = SIGNS[known_space(declared or given, str(path))]
    return replace(mesh, frame=np.diag([*signs, 1.0]))
