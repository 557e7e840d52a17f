"""Motion correction of series with known motion: ``maxca.series`` and ANTsPy's ``motion_correction`` side by side.

    python benchmarks/series.py DATA [--kinds fmri t2 hippocampus] [--frames 60] [--seed 0] [-o FILE]

DATA is the folder with ``oasis``, ``ms`` and ``hippocampus``. Both register to the first frame on the same threads; the
error is the mean distance between true and found position of the content of the first frame, in voxels, over all other
frames. Rows are added to FILE (CSV). Set ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS for ANTs.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ants
import nibabel as nib
import numpy as np
from memory import forget_peak, peak_gb
from moving_frames import Kind, Made, make

import maxca
from maxca.geometry import Affine
from maxca.io.transforms import read_transform
from maxca.workflows.series.options import SeriesOptions

KINDS = {
    "fmri": Kind("oasis/sub-1000/anat/sub-1000_T1w.nii.gz", (3, 3, 3)),
    "t2": Kind("ms/patient01/study2_T2W.nii.gz", (3, 3, 3.3)),
    "hippocampus": Kind("hippocampus/imagesTr/hippocampus_001.nii.gz", (1, 1, 1), margin=5),
}


def ours(path: Path, folder: Path, to: str, threads: int) -> list[Affine]:
    """The motion by maxca, relative to the first frame."""
    found = maxca.series(path, folder / f"maxca-{to}", SeriesOptions(to=to, threads=threads)).affines
    back = found[0].inverse()[0]
    return [each @ back for each in found]


def theirs(path: Path, folder: Path) -> list[Affine]:
    """The motion by ANTsPy."""
    image: Any = nib.load(path)
    nib.save(image.slicer[..., 0], folder / "first.nii.gz")
    moving, fixed = ants.image_read(str(path)), ants.image_read(str(folder / "first.nii.gz"))
    found = ants.motion_correction(moving, fixed=fixed, type_of_transform="BOLDRigid")
    return [read_transform(files[0]).as_affine() for files in found["motion_parameters"]]


def errors(made: Made, found: Sequence[Affine]) -> np.ndarray:
    """(T - 1,) mean distance of the content from its true position, in voxels."""
    size = float(np.linalg.norm(made.affine[:3, :3], axis=0).min())
    pairs = list(zip(found, map(Affine, made.truth), strict=True))[1:]
    apart = [each.map_points(made.points) - truth.map_points(made.points) for each, truth in pairs]
    return np.linalg.norm(apart, axis=-1).mean(axis=1) / size


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row per kind and method."""
    for name in given.kinds:
        made = make(given.data / KINDS[name].path, KINDS[name], given.frames, given.seed)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            path = folder / f"{name}.nii.gz"
            made.save(path)
            runs = {
                "maxca": lambda: ours(path, folder, "first", given.threads),  # noqa: B023
                "maxca --to mean": lambda: ours(path, folder, "mean", given.threads),  # noqa: B023
                "ANTsPy": lambda: theirs(path, folder),  # noqa: B023
                "uncorrected": lambda: [Affine.identity()] * given.frames,
            }
            for method, run in runs.items():
                forget_peak()
                begin = time.perf_counter()
                found = run()
                seconds = time.perf_counter() - begin
                error = errors(made, found)
                yield {
                    "kind": name,
                    "method": method,
                    "shape": "x".join(map(str, made.frames.shape)),
                    "seed": given.seed,
                    "threads": given.threads,
                    "error_voxels": round(float(error.mean()), 4),
                    "worst_frame_voxels": round(float(error.max()), 4),
                    "frames_above_0.15": int((error > 0.15).sum()),
                    "seconds": round(seconds, 1),
                    "peak_gb": round(peak_gb(), 2),
                }


def main() -> None:
    """Run, print and add to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "series.csv")
    given = parser.parse_args()
    maxca.series  # noqa: B018 - imported before the clock starts
    for row in rows(given):
        print(row, flush=True)
        new = not given.output.exists()
        with given.output.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
