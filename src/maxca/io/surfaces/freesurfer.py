"""FreeSurfer's triangle surfaces, such as ``lh.white``: tkregister's surface RAS, or scanner RAS, by their footer."""

from __future__ import annotations

import re

import numpy as np

from maxca.io.surfaces.mesh import Mesh, Unreadable, binary

MAGIC = b"\xff\xff\xfe"
QUADRANGLES = (b"\xff\xff\xff", b"\xff\xff\xfd")
LONGEST_COMMENT = 1 << 16
USE_REAL_RAS, VOLUME_GEOMETRY = 2, 20  # tags of the footer
VALID = re.compile(rb"valid\s*=\s*1\b")
SURFACE_AXES = np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of a volume in tkregister's surface RAS, one per row


def read_freesurfer(content: bytes) -> Mesh:
    """The vertices of a triangle surface.

    Raises:
        Unreadable: for a file of quadrangles, or one that is truncated.
    """
    if content[:3] in QUADRANGLES:
        raise Unreadable("a FreeSurfer surface of quadrangles; convert it with mris_convert")
    ended = content.find(b"\n\n", 3, LONGEST_COMMENT)
    if ended < 0:
        raise Unreadable("the comment of a FreeSurfer surface does not end; copy it again")
    start = ended + 2 + 8
    count, faces = np.frombuffer(content, ">i4", 2, ended + 2).tolist()
    dtype = np.dtype(">f4")
    vertices = binary(content, dtype, count, start)
    end = start + vertices.nbytes
    if faces < 0 or end + 12 * faces > len(content):
        raise Unreadable("truncated: not all of its faces are stored; copy it again")

    def written(vertices: np.ndarray, normals: np.ndarray | None) -> bytes:
        return content[:start] + vertices.astype(dtype).tobytes() + content[end:]

    return Mesh(vertices.astype(np.float64), written, frame=_frame(content[end + 12 * faces :]))


def _frame(footer: bytes) -> np.ndarray | None:
    """From coordinates of the file to scanner RAS; None if the footer does not hold the geometry of the volume."""
    tags = np.frombuffer(footer[: len(footer) // 4 * 4][:12], ">i4").tolist()
    if tags[:2] == [USE_REAL_RAS, 1]:
        return np.eye(4)
    geometry = footer[4:] if tags[:1] == [VOLUME_GEOMETRY] else footer[12:] if tags[2:] == [VOLUME_GEOMETRY] else b""
    if not VALID.match(geometry.lstrip()):
        return None
    axes = np.stack([_vector(geometry, name) for name in (b"xras", b"yras", b"zras")], axis=1)
    return surface_to_scanner(axes, _vector(geometry, b"cras"))


def surface_to_scanner(axes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(4, 4) from tkregister's surface RAS to scanner RAS of a volume.

    Both describe positions in one volume, whose centre is the origin of surface RAS. Source: FreeSurfer's wiki,
    CoordinateSystems.

    Args:
        axes: (3, 3), whose columns are the directions of the axes of the volume in scanner RAS.
        centre: (3,) of the volume in scanner RAS mm (``c_ras``).

    Raises:
        Unreadable: for directions that are not orthonormal.
    """
    if not np.isfinite(axes).all() or not np.isfinite(centre).all() or np.abs(axes.T @ axes - np.eye(3)).max() > 0.01:
        raise Unreadable("the directions in the volume geometry of its footer are not orthonormal; repair it")
    frame = np.eye(4)
    frame[:3, :3] = axes @ SURFACE_AXES
    frame[:3, 3] = centre
    return frame


def _vector(geometry: bytes, name: bytes) -> np.ndarray:
    found = re.search(rb"^" + name + rb"\s*=\s*(\S+)\s+(\S+)\s+(\S+)\s*$", geometry, re.MULTILINE)
    if found is None:
        raise Unreadable(f"the volume geometry of its footer has no {name.decode()}; repair it")
    return np.array([float(each) for each in found.groups()])
