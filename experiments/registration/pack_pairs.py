"""Pack prepared pairs that the registration networks train on: cropped around the labels, 8 bits, one compressed file.

maxca prepare acdc ACDC -o PREPARED            # or hippocampus
python experiments/registration/pack_pairs.py PREPARED OUT.npz.xz [--crop 144 144 0] [--bits 6]
"""

from __future__ import annotations

import argparse
import io
import lzma
from pathlib import Path

import numpy as np

from maxca.datasets.prepared import read_prepared

Arrays = dict[str, np.ndarray]


def cropped(array: np.ndarray, middle: np.ndarray, crop: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """At most ``crop`` voxels (0: all) around a point, and the first of them."""
    low = [max(0, round(c - n / 2)) if n else 0 for c, n in zip(middle, crop, strict=True)]
    box = tuple(slice(a, a + n) if n else slice(None) for a, n in zip(low, crop, strict=True))
    return array[box], np.array(low, dtype=float)


def main() -> None:
    """Pack a folder of ``maxca prepare``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crop", type=int, nargs=3, default=(0, 0, 0), help="voxels, 0 for all")
    parser.add_argument("--bits", type=int, default=8)
    options = parser.parse_args()
    data = read_prepared(options.prepared)
    arrays: Arrays = {"kind": np.array(data.kind)}
    for scan in sorted(data.scans, key=lambda each: each.name):
        voxels = data.load(scan)
        assert voxels.labels is not None, scan.name
        labels = voxels.labels.numpy()
        middle = np.argwhere(labels > 0).mean(axis=0) if labels.any() else np.array(labels.shape) / 2
        image, low = cropped(voxels.image.numpy(), middle, list(options.crop))
        to_voxel = np.array(scan.to_voxel)
        to_voxel[:3, 3] -= low
        key = f"{scan.split}/{scan.subject}/{scan.name}"
        lost = 8 - options.bits
        arrays[f"{key}/image"] = (image >> lost) << lost
        arrays[f"{key}/labels"] = cropped(labels, middle, list(options.crop))[0].astype(np.uint8)
        arrays[f"{key}/to_voxel"], arrays[f"{key}/spacing"] = to_voxel, np.array(scan.spacing)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    options.out.write_bytes(lzma.compress(buffer.getvalue()))


if __name__ == "__main__":
    main()
