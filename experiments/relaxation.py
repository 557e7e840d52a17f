"""Regularisation of the update and of the whole field: Dice against roughness on training pairs.

    python experiments/relaxation.py ../shared/data -o relaxation.csv [--sets brain,cardiac] [--settings 3:0.25,2:0.4]
        [--kernel exact]

Every pair is registered with ``balanced`` and no model for each setting: the smoothness in smallest spacings (σ of the
update), and the relaxation as a fraction of it (σ of the field after each step). The table has mean Dice of the labels,
SDlogJ over the content, NDV in % and seconds of one thread. The relaxation of maxca is a ``sampled`` Gaussian; with
``exact`` its variance is what its σ says. All pairs are training pairs; the defaults may be chosen here.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pair_rows import overlap

from maxca.engine import deformable
from maxca.engine.affine import align
from maxca.engine.deformable import optimise
from maxca.engine.lattice import Lattice, _at_rest, _empty_faces
from maxca.engine.settings import Level, Settings, between_contrasts, settings_for
from maxca.engine.volume import FAINT, Volume
from maxca.geometry import Chain
from maxca.geometry.jacobian import field_determinant, nondiffeomorphic_volume
from maxca.geometry.separable import per_axis
from maxca.io.images import read
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import prepare, read_pair
from maxca.runtime import tuned

USUAL = "3:0.25,2:0.4,1.5:0.5,2.5:0.3,3:0.3,2:0.35,1.5:0.4"
SPACINGS = 3.0  # of the default smoothness
COLUMNS = ("set", "kernel", "smoothness", "relaxation", "pairs", "dice", "sdlogj", "ndv_percent", "seconds")
Files = tuple[Path, Path, Path, Path]


class ExactLattice(Lattice):
    """The relaxation with the discrete analogue of a Gaussian, whose variance is exact also below half a node.

    It solves the heat equation on the nodes. Source: Lindeberg, IEEE Trans. PAMI 12(3), 1990.
    """

    def __init__(self, fixed: Volume, level: Level, settings: Settings) -> None:
        super().__init__(fixed, level, settings)
        sigma = settings.relaxation * settings.smoothness * level.factor / self.node_grid.spacing
        self.relax = _at_rest(per_axis(diffusion, self.node_grid.shape, sigma), _empty_faces(fixed)).to(self.device)


def diffusion(n: int, sigma: float) -> torch.Tensor:
    """(n, n): smoothing of variance ``sigma``², reflecting at the ends."""
    links = torch.diag(torch.ones(max(n - 1, 0), dtype=torch.float64), 1)[:n, :n]
    laplacian = links + links.T
    laplacian -= torch.diag(laplacian.sum(1))
    return torch.linalg.matrix_exp(0.5 * sigma**2 * laplacian).float()


def brains(data: Path) -> Iterator[Files]:
    """Pairs of neighbouring training subjects."""
    subjects = json.loads((data / "oasis/split.json").read_text())["train"]
    scan, labels = (data / "oasis" / name for name in ("sub-{0}/anat", "derivatives/neuromorphometrics/sub-{0}/anat"))
    for a, b in zip(subjects[:8:2], subjects[1:8:2], strict=True):
        images = (Path(f"{scan}/sub-{{0}}_T1w.nii.gz".format(n)) for n in (a, b))
        drawn = (Path(f"{labels}/sub-{{0}}_dseg.nii.gz".format(n)) for n in (a, b))
        yield (*images, *drawn)  # type: ignore[misc]


def hearts(data: Path) -> Iterator[Files]:
    """Every sixth training pair."""
    with (data / "acdc/pairs_train.csv").open() as file:
        for row in list(csv.DictReader(file))[4::6]:
            yield tuple(  # type: ignore[misc]
                data / "acdc" / row[c] for c in ("fixed", "moving", "fixed_labels", "moving_labels")
            )


def hippocampi(data: Path) -> Iterator[Files]:
    """Pairs of neighbouring training subjects."""
    names = [Path(name).name for name in json.loads((data / "hippocampus/split.json").read_text())["train"]]
    names = [name if name.endswith(".nii.gz") else f"{name}.nii.gz" for name in names]
    folder = data / "hippocampus"
    for a, b in zip(names[4::5], names[5::5], strict=False):
        yield folder / "imagesTr" / a, folder / "imagesTr" / b, folder / "labelsTr" / a, folder / "labelsTr" / b


SETS = {"brain": brains, "cardiac": hearts, "hippocampus": hippocampi}


def measured(files: Files, settings: list[tuple[float, float]]) -> Iterator[tuple[float, float, float, float]]:
    """Dice, SDlogJ, NDV in % and seconds of a pair for each setting."""
    pair = read_pair(SideInputs(files[0]), SideInputs(files[1]), RegistrationOptions())
    volumes = prepare(pair, torch.device("cpu"))
    fixed, moving = volumes.upright, volumes.moving
    found = align(volumes.fixed, moving)
    labels = read(files[2]), read(files[3])
    usual = settings_for(fixed.grid, "balanced")
    usual = usual if found.same_contrast else between_contrasts(usual)
    for smoothness, relaxation in settings:
        begin = time.process_time()
        plan = replace(usual, smoothness=usual.smoothness * smoothness / SPACINGS, relaxation=relaxation)
        field, _ = optimise(fixed, moving, found.affine, plan)
        seconds = time.process_time() - begin
        content = Chain().resample(fixed.channels, fixed.grid, field.grid)[0] > FAINT
        rough = float(field_determinant(field)[content].clamp(min=1e-3).log().std())
        folded = 100 * float(nondiffeomorphic_volume(field)[content].mean())
        yield overlap(Chain((field, found.affine)), *labels), rough, folded, seconds


def main() -> None:
    """Add the rows of the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--settings", default=USUAL)
    parser.add_argument("--kernel", choices=("sampled", "exact"), default="sampled", help="of the relaxation")
    options = parser.parse_args()
    if options.kernel == "exact":
        setattr(deformable, "Lattice", ExactLattice)  # noqa: B010
    settings = [(float(a), float(b)) for a, b in (each.split(":") for each in options.settings.split(","))]
    new = not options.output.exists()
    with options.output.open("a", newline="") as file, tuned(1), torch.no_grad():
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for name in options.sets.split(","):
            rows = np.array([list(measured(files, settings)) for files in SETS[name](options.data)])
            for setting, each in zip(settings, rows.swapaxes(0, 1), strict=True):
                writer.writerow(
                    [name, options.kernel, *setting, len(each), *(f"{number:.4f}" for number in each.mean(axis=0))]
                )
            file.flush()


if __name__ == "__main__":
    main()
