"""Transform files in HDF5, ITK's and X5: their numbers, read from memory and validated, in a process if necessary.

HDF5 trusts a file: it follows links into other files, allocates any claimed size and, for a damaged file, accesses
invalid memory or loops endlessly. Therefore only the structure of these formats is followed, no more is allocated than
the bytes of the file can decompress to, and a file without a valid checksum is read by ``python -m maxca.io.hdf5``,
with limited memory and time. This module imports neither torch nor SimpleITK: the process starts in 0.15 s.
"""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np

from maxca.io.limited import grant, run_limited, serve
from maxca.io.voxels import DEFLATE_LIMIT

SECONDS = 10  # and one more for each 20 MB
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
LARGEST_GROUP = 1000  # most transforms in one file
# ITK 4 misspelled these names; ITK 5 reads both.
FIXED = ("TransformFixedParameters", "TranformFixedParameters")
PARAMETERS = ("TransformParameters", "TranformParameters")

Numbers = tuple[str, np.ndarray, np.ndarray]  # kind, fixed parameters, parameters
X5 = "X5 "  # begins the kinds of transforms in X5: linear, displacements, deformations


class Refused(ValueError):
    """Raised by this module, as opposed to errors of h5py."""


def put_dataset(group: h5py.Group, name: str, **content: Any) -> None:
    """Create a dataset and write its numbers to the file at once.

    Otherwise they are written when Python releases the dataset, and equal content may become different files.

    Args:
        group: of the dataset.
        name: of it.
        content: see ``h5py.Group.create_dataset``.
    """
    group.create_dataset(name, **content)
    group.file.flush()


def read_trusted(content: bytes) -> list[Numbers]:
    """The transforms in a file whose checksum was verified, in the order of the file.

    Raises:
        ValueError: for content that ITK does not write, or that refers to other files.
    """
    try:
        with h5py.File(h5py.h5f.open_file_image(content)) as file:
            return _transforms(file, len(content))
    except Refused:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:  # of h5py and HDF5
        raise Refused("not a transform in HDF5, or damaged") from error


def read_guarded(content: bytes) -> list[Numbers]:
    """Like ``read_trusted``, in a process with limits on memory and time.

    Raises:
        ValueError: as ``read_trusted``, and if the process failed.
    """
    if not content.startswith(b"\x89HDF\r\n\x1a\n"):
        raise Refused("not an HDF5 file, or damaged")
    output = run_limited("maxca.io.hdf5", content, SECONDS + len(content) / 2e7)
    with np.load(io.BytesIO(output), allow_pickle=False) as found:
        kinds = [str(kind) for kind in found["kinds"]]
        return [(kind, found[f"fixed{n}"], found[f"parameters{n}"]) for n, kind in enumerate(kinds)]


def _transforms(file: h5py.File, stored: int) -> list[Numbers]:
    group = _member(file, ("TransformGroup",), h5py.Group)
    count = group.id.get_num_objs()
    if count > LARGEST_GROUP:
        raise Refused(f"it claims to hold {count} transforms")
    parts = [_member(group, (str(number),), h5py.Group) for number in range(count)]
    if _attribute(file, "Format") == "X5":
        return _in_x5(file, parts, stored)
    kinds = [_text(_member(part, ("TransformType",), h5py.Dataset)) for part in parts]
    plan = [
        None
        if kind.startswith("CompositeTransform")
        else (_member(part, FIXED, h5py.Dataset), _member(part, PARAMETERS, h5py.Dataset))
        for part, kind in zip(parts, kinds, strict=True)
    ]
    _allow([(array, 1) for pair in plan if pair for array in pair], stored)
    nothing = np.zeros(0)
    pairs = [(nothing, nothing) if pair is None else (pair[0][()], pair[1][()]) for pair in plan]
    return [(kind, *pair) for kind, pair in zip(kinds, pairs, strict=True)]


def _in_x5(file: h5py.File, parts: list[h5py.Group], stored: int) -> list[Numbers]:
    """The transforms of the first chain of an X5 file, or its only one, in the order of application to a point.

    The fixed parameters are those of the domain: its size, and the (4, 4) matrix from its voxels to world space.
    """
    order = list(range(len(parts)))
    if file.get("TransformChain", getlink=True) is not None:
        words = _text(_member(_member(file, ("TransformChain",), h5py.Group), ("0",), h5py.Dataset)).split("/")
        if not all(word.isdecimal() and int(word) < len(parts) for word in words) or len(words) > LARGEST_GROUP:
            raise Refused("damaged: its chain names transforms that it does not hold")
        order = [int(word) for word in words]
    elif len(parts) != 1:
        raise Refused(f"it contains {len(parts)} transforms without a chain that defines their order")
    chosen = [parts[number] for number in order]
    kinds = [_attribute(part, "Type") for part in chosen]
    kinds = [
        _attribute(part, "Representation") if kind == "nonlinear" else kind
        for kind, part in zip(kinds, chosen, strict=True)
    ]
    held = [_member(part, ("Transform",), h5py.Dataset) for part in chosen]
    domains = [None if kind == "linear" else _domain(part) for kind, part in zip(kinds, chosen, strict=True)]
    matrices = [(domain[1], 2) for domain in domains if domain]
    _allow([*((each, 4 if domain else 2) for each, domain in zip(held, domains, strict=True)), *matrices], stored)
    return [
        (f"{X5}{kind}", np.concatenate([d[()].ravel() for d in domain]) if domain else np.zeros(0), each[()].ravel())
        for kind, domain, each in zip(kinds, domains, held, strict=True)
    ]


def _domain(part: h5py.Group) -> tuple[Any, Any]:
    """The size and the mapping of the domain of a field in X5."""
    domain = _member(part, ("Domain",), h5py.Group)
    size, mapping = (_member(domain, (name,), h5py.Dataset) for name in ("Size", "Mapping"))
    if size.shape != (3,) or size.dtype.kind not in "iu" or size.external or size.is_virtual:
        raise Refused("damaged: the size of its domain is not three integers")
    return size, mapping


def _attribute(place: Any, name: str) -> str:
    """A text in the attributes of a file or group, empty where there is none."""
    value = place.attrs.get(name, "")
    return value.decode("ascii", errors="replace") if isinstance(value, bytes) else str(value)[:80]


def _allow(arrays: list[tuple[Any, int]], stored: int) -> None:
    """Check datasets of given dimensions before they are read, and raise the memory limit by what they need."""
    for array, dimensions in arrays:
        _check(array, stored, dimensions)
    claimed = sum(array.nbytes for array, _ in arrays)
    if claimed > stored * DEFLATE_LIMIT:
        raise Refused(f"truncated or damaged: it claims {claimed} bytes of parameters and holds {stored}")
    grant(3 * claimed)


def _member(group: h5py.Group, names: tuple[str, ...], kind: type) -> Any:
    """A member of a group within this file, under the first of the names that exists."""
    for name in names:
        link = group.get(name, getlink=True)
        if link is None:
            continue
        if not isinstance(link, h5py.HardLink):
            raise Refused(f"its {name} is a link, which is not followed")
        member = group.get(name)
        if not isinstance(member, kind):
            raise Refused(f"damaged: its {name} is no {kind.__name__.lower()}")
        return member
    raise Refused(f"it has no {names[0]}, unlike ITK's transforms in HDF5")


def _text(dataset: Any) -> str:
    kind = h5py.check_string_dtype(dataset.dtype)
    if kind is None or dataset.size != 1 or dataset.external or dataset.is_virtual:
        raise Refused("damaged: the kind of a transform is not a text")
    value = np.ravel(dataset[()])[0]
    return bytes(value).decode("ascii", errors="replace") if isinstance(value, bytes) else str(value)


def _check(dataset: Any, stored: int, dimensions: int = 1) -> None:
    """Reject numbers that are not stored completely in this file in a form that ITK writes."""
    if dataset.external or dataset.is_virtual:
        raise Refused("its parameters are stored in another file, which is not followed")
    if dataset.ndim != dimensions or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (4, 8):
        raise Refused(f"damaged: parameters of shape {dataset.shape} and type {dataset.dtype}")
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(n)[0] for n in range(properties.get_nfilters())}
    if filters - FILTERS:
        raise Refused("its parameters are compressed by a filter other than gzip; write them with gzip")
    if dataset.chunks is None:
        whole = dataset.id.get_storage_size() == dataset.nbytes
    else:
        size = math.prod(dataset.chunks)
        if size * dataset.dtype.itemsize > stored * DEFLATE_LIMIT:
            raise Refused(f"damaged: it claims chunks of {size} numbers, the file has {stored} bytes")
        counts = (-(-n // each) for n, each in zip(dataset.shape, dataset.chunks, strict=True))
        whole = dataset.id.get_num_chunks() == math.prod(counts)
    if not whole:
        raise Refused("truncated or damaged: parameters are missing")


def _process(content: bytes) -> bytes:
    """The output of the process: an archive of arrays."""
    transforms = read_trusted(content)
    arrays: dict[str, np.ndarray] = {"kinds": np.array([kind for kind, _, _ in transforms], dtype=np.str_)}
    for number, (_, fixed, parameters) in enumerate(transforms):
        arrays[f"fixed{number}"], arrays[f"parameters{number}"] = fixed, parameters
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(serve(_process))
