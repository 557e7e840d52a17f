"""Pack the labelled scans that the segmentation networks train on: cropped, 8 bits, one file per data set.

    python experiments/segmentation/pack.py DATA OUT [--small]

With ``--small``: 6 bits, no rescans, the centre of each heart only, and xz, to reduce the size of a transfer.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import lzma
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import zoom

TISSUES = {"": 0, "None": 0, "CSF": 1, "GM": 2, "WM": 3}
CORTEX = 100  # labels from here on are cortical
HEART_MM = 1.5
OTHER_SIDE = {"Left": "Right", "Right": "Left"}

Arrays = dict[str, np.ndarray]


def eight_bit(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Content to 1 … 255 by its 0.1 and 99.9 percentiles, the rest to 0."""
    low, high = np.percentile(values[inside], [0.1, 99.9])
    return np.where(inside, 1 + np.clip((values - low) / (high - low), 0, 1) * 254, 0).round().astype(np.uint8)


def six_bit(image: np.ndarray) -> np.ndarray:
    """The same with 63 brightnesses and the background."""
    return np.where(image > 0, np.maximum(image >> 2, 1) << 2, 0).astype(np.uint8)


def brains(folder: Path, rescans: bool) -> Arrays:
    """The scans of ``oasis/``, right to left, and the names of their labels."""
    split = json.loads((folder / "split.json").read_text())
    again = {second for _, second in split["rescans"]}
    with (folder / "labels.csv").open() as file:
        names = {int(row["Label Number"]): (row["Label Name"], row["Class"]) for row in csv.DictReader(file)}
    loaded = {}
    for subject in (*split["train"], *(s for s in split["val"] if rescans or s not in again)):
        stem = f"sub-{subject}/anat/sub-{subject}"
        files = (folder / f"{stem}_T1w.nii.gz", folder / f"derivatives/neuromorphometrics/{stem}_dseg.nii.gz")
        scan: list[Any] = [nib.as_closest_canonical(nib.load(file)) for file in files]
        loaded[subject] = tuple(np.asarray(each.dataobj) for each in scan)
    numbers = sorted(set().union(*(np.unique(loaded[s][1]).tolist() for s in split["train"])))
    index = np.zeros(max(names) + 1, dtype=np.uint8)
    index[numbers] = np.arange(len(numbers))
    title = {n: names[n][0] if n else "" for n in numbers}
    number = {text: n for n, text in title.items()}
    swapped = [number.get(re.sub("^(Left|Right)", lambda m: OTHER_SIDE[m[0]], title[n]), n) for n in numbers]
    tissues = [2 if n >= CORTEX else TISSUES[names[n][1]] if n else 0 for n in numbers]
    arrays = {"numbers": np.array(numbers), "swap": index[swapped], "tissues": np.array(tissues)}
    for subject, (image, labels) in loaded.items():
        inside = np.argwhere((image > 0) | (labels > 0))
        box = tuple(slice(a, b + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True))
        part = "train" if subject in split["train"] else "val"
        arrays[f"{part}_{subject}_image"] = eight_bit(image, image > 0)[box]
        arrays[f"{part}_{subject}_labels"] = index[labels][box]
    return arrays


def hearts(folder: Path, side: int) -> Arrays:
    """Both frames of each patient of ``acdc/``, at 1.5 mm in plane, the middle ``side`` voxels."""
    split = json.loads((folder / "split.json").read_text())
    arrays = {"numbers": np.arange(4), "swap": np.arange(4, dtype=np.uint8), "tissues": np.array([0, 1, 2, 1])}
    for part in ("train", "val"):
        for patient in split[part]:
            for truth in sorted((folder / patient).glob("*_gt.nii.gz")):
                image: Any = nib.load(str(truth).replace("_gt", ""))
                labels: Any = nib.load(truth)
                scale = [size / HEART_MM for size in image.header.get_zooms()[:2]] + [1]
                values = middle(zoom(np.asarray(image.dataobj, dtype=np.float32), scale, order=1), side)
                name = f"{part}_{truth.name.removesuffix('_gt.nii.gz').replace('_', '-')}"
                arrays[f"{name}_image"] = eight_bit(values, np.ones(values.shape, bool))
                arrays[f"{name}_labels"] = middle(zoom(np.asarray(labels.dataobj), scale, order=0), side).astype(
                    np.uint8
                )
    return arrays


def middle(values: np.ndarray, side: int) -> np.ndarray:
    """The middle ``side`` voxels of the first two axes, or fewer."""
    starts = [max(0, (n - side) // 2) for n in values.shape[:2]]
    return values[starts[0] : starts[0] + side, starts[1] : starts[1] + side]


def main() -> None:
    """Pack both data sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    packed = {
        "brains": brains(options.data / "oasis", rescans=not options.small),
        "hearts": hearts(options.data / "acdc", side=128 if options.small else 144),
    }
    for name, arrays in packed.items():
        if options.small:
            smaller = {key: six_bit(a) if key.endswith("_image") else a for key, a in arrays.items()}
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **smaller)
            (options.out / f"{name}.npz.xz").write_bytes(lzma.compress(buffer.getvalue()))
        else:
            np.savez_compressed(options.out / f"{name}.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
