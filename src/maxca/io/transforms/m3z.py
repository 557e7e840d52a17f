"""FreeSurfer's morphs, ``.m3z`` and ``.m3d``: where each node of a grid in the atlas lies in the image, big-endian.

Layout (FreeSurfer's utils/gcamorph.cpp): version, width, height, depth, spacing, exponent; per node, x slowest, its
original and its present position and an index; then tags, such as the geometry of both volumes and the unit.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import psutil
from scipy import ndimage

from maxca.geometry import Chain, Grid
from maxca.io.transforms.frames import chain_between, node_positions
from maxca.io.transforms.lta import grid_of
from maxca.io.voxels import DEFLATE_LIMIT

HEADER = struct.Struct(">f4if")
NODE = np.dtype([("original", ">f4", 3), ("position", ">f4", 3), ("index", ">i4", 3)])
VOLUME = struct.Struct(">4i15f512s")  # valid, shape, spacing, three axes, centre, file name
GEOMETRY, UNIT, LABELS = 10, 11, 12  # tags
RAS = 1  # unit; otherwise voxels of the image
TAGS = 1 << 13  # more bytes than all tags but the labels take


def parse_m3z(content: bytes) -> Chain:
    """The displacement field, atlas (fixed) → image (moving) world points, on the nodes in the atlas.

    Nodes that FreeSurfer marks as invalid move like the nearest valid one.

    Raises:
        ValueError: for content that is damaged, not a morph, or without the geometry of both volumes.
    """
    if content.startswith(b"\x1f\x8b"):
        content = _inflated(content)
    if len(content) < HEADER.size:
        raise ValueError("not a morph of FreeSurfer, or truncated")
    version, *shape, spacing, _ = HEADER.unpack_from(content)
    count = int(np.prod(shape, dtype=object))
    if version != 1 or min(shape) < 1 or not 0 < spacing < 1000:
        raise ValueError("not a morph of FreeSurfer, or damaged")
    end = HEADER.size + count * NODE.itemsize
    if len(content) < end:
        raise ValueError(f"truncated: {count} nodes take {end} bytes, and it has {len(content)}")
    nodes = np.frombuffer(content, NODE, count, HEADER.size).reshape(shape)
    image, atlas, unit = _tags(content, end, count)
    affine = atlas.affine @ np.diag([spacing, spacing, spacing, 1.0])
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    position = nodes["position"].astype(np.float64)
    moved = position if unit == RAS else image.to_world(position)
    invalid = ~(nodes["original"].any(axis=-1) | nodes["position"].any(axis=-1))
    vectors = moved - node_positions(grid)
    if invalid.all() or not np.isfinite(vectors).all():
        raise ValueError("damaged: its positions contain NaN or infinite values, or none is valid")
    if invalid.any():
        nearest = ndimage.distance_transform_edt(invalid, return_distances=False, return_indices=True)
        vectors = vectors[tuple(nearest)]
    return chain_between(vectors, grid, (np.eye(4), np.eye(4)))


def _inflated(content: bytes) -> bytes:
    """The content of a gzip file, of which no more is unpacked than its header claims and memory holds."""
    stream = zlib.decompressobj(31)
    try:
        out = stream.decompress(content, HEADER.size)
        claimed = _claimed(out)
        if claimed > min(len(content) * DEFLATE_LIMIT, psutil.virtual_memory().available):
            raise ValueError(f"truncated or damaged: {claimed} bytes of nodes, more than it or the memory can hold")
        return out + stream.decompress(stream.unconsumed_tail, claimed)
    except zlib.error as error:
        raise ValueError("damaged: its gzip stream cannot be read") from error


def _claimed(header: bytes) -> int:
    """Bytes of the nodes and tags after the header."""
    if len(header) < HEADER.size:
        raise ValueError("not a morph of FreeSurfer, or truncated")
    shape = HEADER.unpack(header)[1:4]
    return max(0, int(np.prod(shape, dtype=object))) * (NODE.itemsize + 4) + TAGS


def _tags(content: bytes, at: int, count: int) -> tuple[Grid, Grid, int]:
    """The grids of the image and the atlas, and the unit of the positions. Unknown tags have no length: they end it."""
    grids, unit = None, 0
    while len(content) >= at + 4:
        (tag,) = struct.unpack_from(">i", content, at)
        size = {GEOMETRY: 2 * VOLUME.size, UNIT: 4, LABELS: 4 * count}.get(tag)
        if size is None:
            break
        if len(content) < at + 4 + size:
            raise ValueError("truncated within its geometry")
        if tag == GEOMETRY:
            grids = _volume(content, at + 4), _volume(content, at + 4 + VOLUME.size)
        elif tag == UNIT:
            (unit,) = struct.unpack_from(">i", content, at + 4)
        at += 4 + size
    if grids is None:
        raise ValueError("its geometry is missing; write it again with mri_warp_convert")
    return *grids, unit


def _volume(content: bytes, at: int) -> Grid:
    valid, *numbers, _ = VOLUME.unpack_from(content, at)
    if valid != 1 or not np.isfinite(numbers).all():
        raise ValueError("the geometry of its image or atlas is marked as invalid; write it again with both volumes")
    held = np.array(numbers, dtype=np.float64)
    return grid_of(held[:3], held[3:6], held[6:15].reshape(3, 3), held[15:])
