"""Known changes of volume of one subject between two times, and what the longitudinal preset measures of them.

    python experiments/longitudinal.py ../shared/data -o longitudinal.csv [--pairs 4] [--methods longitudinal@4,…]

Brains of training subjects of OASIS. The moving image is the scan under a rigid motion of a few degrees and mm and a
smooth known field (``wide`` and ``narrow``, local changes of volume of 6 %), or the rigid motion alone (``same``), with
another noise and another bias field. Each method is registered by ``fast`` on one thread, with a smoothness in mm after
``@``: ``longitudinal``, and ``affine``, the usual registration without a model. Rows have the mean absolute error of
the change of each label of at least 1 ml, in percent of its volume, the mean over the labels with its sign (a bias),
the standard deviation of the error over the voxels of the content, and the mean distance between the registration and
the inverse of that with exchanged images, in mm. Rows of an existing table are not computed again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tables
import torch
from relaxation import brains
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from maxca.engine.volume import foreground
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.geometry.jacobian import jacobian_determinant
from maxca.io.images import Image, read
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.register import register
from maxca.registration.resampling import resample

METHODS = "affine,longitudinal"
KINDS = {"same": 0.0, "wide": 12.0, "narrow": 6.0}  # σ of the field in mm
CHANGE = 0.06  # standard deviation of the relative change of volume
NOISE, BIAS = 0.02, 0.1  # of the range
SMALLEST = 1000.0  # mm³
COLUMNS = ("kind", "pair", "method", "label_error", "label_bias", "voxel_sd", "exchange_mm", "ndv_percent", "seconds")


def truth(grid: Grid, kind: str, random: np.random.Generator) -> Chain:
    """A known map, fixed world points → moving world points."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(random.normal(0, 2, 3), degrees=True).as_matrix()
    matrix[:3, 3] = grid.center - matrix[:3, :3] @ grid.center + random.normal(0, 2, 3)
    rigid = Affine(matrix)
    if not KINDS[kind]:
        return Chain((rigid,))
    noise = np.stack([gaussian_filter(random.normal(size=grid.shape), KINDS[kind] / grid.spacing) for _ in range(3)])
    bend = DenseField(torch.from_numpy(noise).float(), grid)
    found = float((jacobian_determinant(Chain((DenseField(bend.displacement * 1e-3, grid),)), grid) - 1).std()) * 1e3
    return Chain((DenseField(bend.displacement * (CHANGE / found), grid), rigid))


def seen(image: Image, random: np.random.Generator) -> Image:
    """The image with noise and a bias field."""
    data = image.data.astype(np.float64)
    bias = gaussian_filter(random.normal(size=data.shape), 30 / image.grid.spacing)
    values = data * np.exp(BIAS * bias / bias.std()) + random.normal(0, NOISE * data.max(), data.shape) * (data > 0)
    return Image(values.clip(0).astype(np.float32), image.grid)


def row(scan: Image, labels: Image, kind: str, method: str, random: np.random.Generator) -> dict[str, object]:
    """Register a made pair."""
    chain = truth(scan.grid, kind, random)
    inverse = chain.inverse()[0]
    fixed, moving = seen(scan, random), seen(resample(scan, scan.grid, inverse, "linear", fill=0), random)
    name, _, mm = method.partition("@")
    options = RegistrationOptions(model="none", effort="fast", threads=1, smoothness=float(mm) if mm else None)
    if name == "longitudinal":
        options = replace(options, preset="longitudinal")
    sides = SideInputs(fixed), SideInputs(moving)
    begin = time.process_time()
    found = register(*sides, options)
    seconds = time.process_time() - begin
    back = register(*sides[::-1], options)
    percent = [100 * (jacobian_determinant(each, scan.grid).numpy() - 1) for each in (chain, found.chain)]
    sizes = {n: labels.data == n for n in np.unique(labels.data[labels.data > 0])}
    large = [inside for inside in sizes.values() if inside.sum() * scan.grid.voxel_volume >= SMALLEST]
    errors = np.array([percent[1][inside].mean() - percent[0][inside].mean() for inside in large])
    content = foreground(scan.data)
    points = scan.grid.to_world(random.permutation(np.argwhere(content))[:5000])
    exchange = np.linalg.norm(back.chain.map_points(found.chain.map_points(points)) - points, axis=1)
    return {
        "label_error": f"{np.abs(errors).mean():.3f}",
        "label_bias": f"{errors.mean():.3f}",
        "voxel_sd": f"{(percent[1] - percent[0])[content].std():.3f}",
        "exchange_mm": f"{exchange.mean():.4f}",
        "ndv_percent": f"{found.metrics.folding.ndv_percent:.5f}",
        "seconds": f"{seconds:.2f}",
    }


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--methods", default=METHODS)
    options = parser.parse_args()
    old = tables.read(options.output)
    done = {(each["kind"], each["pair"], each["method"]) for each in old}
    for number, (image, _, drawn, _) in zip(range(options.pairs), brains(options.data), strict=False):
        for kind in KINDS:
            for method in options.methods.split(","):
                if (kind, str(number), method) not in done:
                    random = np.random.default_rng(number)
                    found = row(read(image), read(drawn), kind, method, random)
                    tables.write(options.output, {"kind": kind, "pair": number, "method": method} | found, COLUMNS)


if __name__ == "__main__":
    main()
