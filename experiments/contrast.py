"""Registration of T2w and FLAIR to T1w of one subject with a known deformation: error of each setting.

    python experiments/contrast.py ../shared/data/ms/patient01    # two hours; resumes
    python experiments/contrast.py ../shared/data/ms/patient01 --only "1 T2W 6 0"

The scans of a visit are aligned by the transforms of the data set. The moving one is deformed by a smooth random map,
so the true transform is known, and the error is measured in mm at points of the head, away from the borders.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

import maxca
from maxca.geometry import Chain, DenseField, Grid
from maxca.geometry.jacobian import nondiffeomorphic_volume
from maxca.io.transforms import read_transform

sys.path.append(str(Path(__file__).parent))
import tables

VISITS, CONTRASTS, SEEDS = (1, 2), ("T2W", "FLAIR"), (0, 1, 2, 3)
BENDS = (3, 6, 10)  # mm, root mean square of the displacement
WAYS: tuple[tuple[str, str], ...] = (("none", "lncc"), ("none", "mi"), ("synth", "mi"), ("synth", "lncc"))
KEY = ("visit", "contrast", "bend_mm", "seed", "model", "similarity")
COLUMNS = (*KEY, "taken", "before_mm", "mean_mm", "p95_mm", "ndv_percent", "seconds", "threads", "maxca")
APART, REACH = 8.0, 25.0  # mm between the nodes of the deformation; σ in mm of the smoothed noise
INSIDE = 12.0  # mm: smallest distance of points from the borders
POINTS = 5_000


def bend(grid: Grid, rms: float, seed: int) -> DenseField:
    """A smooth random deformation over ``grid`` with an RMS displacement of ``rms`` mm and no folds."""
    nodes = grid.at_spacing((APART,) * 3)
    noise = np.random.default_rng(seed).normal(size=(3, *nodes.shape))
    motion = torch.from_numpy(ndimage.gaussian_filter(noise, (0, *(REACH / nodes.spacing)))).float()
    field = DenseField(motion * rms / motion.square().sum(dim=0).mean().sqrt(), nodes)
    assert nondiffeomorphic_volume(field).max() == 0
    return field


def points_of(image: maxca.Image, seed: int) -> np.ndarray:
    """(N, 3) points of the head, RAS mm: brighter than a fifth of the brightest, and not at the borders."""
    data = np.asarray(image.data, dtype=np.float64)
    rim = [int(np.ceil(INSIDE / mm)) for mm in image.grid.spacing]
    inner = np.zeros(data.shape, dtype=bool)
    inner[tuple(slice(r, n - r) for r, n in zip(rim, data.shape, strict=True))] = True
    index = np.argwhere(inner & (data > 0.2 * np.percentile(data, 99)))
    chosen = np.random.default_rng(seed).choice(len(index), POINTS, replace=False)
    return image.grid.to_world(index[chosen])


def measured(
    folder: Path,
    visit: int,
    contrast: str,
    rms: int,
    seed: int,
    ways: Sequence[tuple[str, str]],
    threads: int,
) -> Iterator[dict[str, object]]:
    """A row for each setting on one pair."""
    fixed = maxca.read_image(folder / f"study{visit}_T1W.nii.gz")
    moving = maxca.read_image(folder / f"study{visit}_{contrast}.nii.gz")
    # Each file maps FLAIR points to those of its scan.
    lies = read_transform(folder / f"study{visit}_T1W_intrastudy_to_FLAIR.txt").inverse()[0]
    if contrast != "FLAIR":
        lies = read_transform(folder / f"study{visit}_{contrast}_intrastudy_to_FLAIR.txt") @ lies
    known = bend(moving.grid, rms, seed)
    values = torch.as_tensor(np.asarray(moving.data, dtype=np.float32))
    bent = replace(moving, data=Chain((known,)).resample(values[None], moving.grid, moving.grid)[0].numpy(), path=None)
    points = points_of(fixed, seed)
    truth = lies.map_points(points)

    def missed(chain: Chain) -> np.ndarray:
        return np.linalg.norm(known.map_points(chain.map_points(points)) - truth, axis=1)

    for model, similarity in ways:
        begin = time.perf_counter()
        result = maxca.register(fixed, bent, model=model, similarity=similarity, threads=threads)
        seconds = time.perf_counter() - begin
        error = missed(result.chain)
        yield {
            **dict(zip(KEY, (visit, contrast, rms, seed, model, similarity), strict=True)),
            "taken": "" if result.record.network is None else result.record.network.accepted,
            "before_mm": f"{missed(lies).mean():.4f}",
            "mean_mm": f"{error.mean():.4f}",
            "p95_mm": f"{np.percentile(error, 95):.4f}",
            "ndv_percent": f"{result.metrics.folding.ndv_percent:.6g}",
            "seconds": f"{seconds:.2f}",
            "threads": threads,
            "maxca": maxca.__version__,
        }


def main() -> None:
    """Compute the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="with study1_T1W.nii.gz and so on, and their transforms")
    parser.add_argument("-o", "--output", type=Path, default=tables.RESULTS / "contrast.csv")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="only cases whose visit, contrast, deformation and seed contain this text")
    parser.add_argument("--quick", action="store_true", help="only the first case, as a test")
    options = parser.parse_args()
    known = {tuple(row[name] for name in KEY) for row in tables.read(options.output)}
    cases = [case for case in product(VISITS, CONTRASTS, BENDS, SEEDS)][: 1 if options.quick else None]
    for case in cases:
        name = " ".join(map(str, case))
        ways = [way for way in WAYS if (*map(str, case), *way) not in known]
        if not ways or (options.only and options.only not in name):
            continue
        for row in measured(options.folder, *case, ways, threads=options.threads):
            tables.write(options.output, row, COLUMNS)
            print(name, row["model"], row["similarity"], row["mean_mm"], "mm of", row["before_mm"], flush=True)


if __name__ == "__main__":
    main()
