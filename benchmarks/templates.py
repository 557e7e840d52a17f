"""Templates of brains: ``maxca.build_template`` and ANTsPy's ``build_template`` side by side.

    python benchmarks/templates.py DATA [--scans 15] [--spacing 3] [--iterations 8] [--ants-iterations 4] [-o FILE]

DATA is the folder with ``oasis``, of which the first training scans are used, at a coarser spacing and with intensities
scaled equally for both tools; both begin with the first of them, with a margin. Both have the same cores: maxca as
workers of one thread, ANTs as threads (set ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS). ANTs runs ANTsPy's default SyN
(mutual information), at most ``--ants-steps`` steps per level; maxca registers without a network.

Measured with the same functions for both: mean Dice of the labels of all pairs of scans in template space (nearest
neighbour); the sharpness (mean gradient per mm, relative to the mean intensity) of the mean of all scans by the last
transforms, and of the template itself, which ANTs has sharpened; and the mean distance in mm of the mean shape of all
scans from the template, of the last registrations and after the last update of the template. Seconds include the start
of the workers; CPU seconds, of all processes, depend less on what else the machine does. Rows are added to FILE (CSV),
and those of the iterations of maxca to FILE_iterations.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ants
import numpy as np
import torch

import maxca
from maxca.datasets.brain import read_bids
from maxca.engine.volume import Volume, at_scale, foreground, normalise
from maxca.geometry import Chain
from maxca.io.images import Image, read, write
from maxca.io.transforms import read_transform
from maxca.options import RegistrationOptions
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.template.average import BRIGHTEST, mean_of, overlap, sharpness
from maxca.workflows.template.options import TemplateOptions
from maxca.workflows.template.outputs import ITERATIONS, TRANSFORMS
from maxca.workflows.template.registrations import REGISTRATIONS
from maxca.workflows.template.shape import mean_shape

MARGIN = 0.1  # of the extent, on each side of the initial template of both
Row = dict[str, Any]
Scans = Mapping[str, tuple[Path, Path]]  # the image and the labels, by name


def prepared(data: Path, count: int, spacing: float, folder: Path) -> Scans:
    """Files of scaled and coarser scans, and of their labels."""
    files = {}
    for scan in [scan for scan in read_bids(data / "oasis") if scan.split == "train" and scan.labels][:count]:
        image, labels = read(scan.image), read(scan.labels or scan.image)
        values = BRIGHTEST * normalise(torch.from_numpy(np.ascontiguousarray(image.data, np.float32)))
        coarse = at_scale(Volume(values, image.grid), spacing)
        drawn = torch.from_numpy(labels.data.astype(np.int32))[None]
        drawn = Chain().resample(drawn, labels.grid, coarse.grid, "labels")[0]
        files[scan.name] = folder / f"{scan.name}.nii.gz", folder / f"{scan.name}_labels.nii.gz"
        write(coarse.values.numpy(), coarse.grid, files[scan.name][0])
        write(drawn.numpy().astype(np.int16), coarse.grid, files[scan.name][1])
    return files


def initial(scans: Scans, folder: Path) -> Path:
    """The first scan, with a margin."""
    image = read(next(iter(scans.values()))[0])
    extra = [round(MARGIN * n) for n in image.grid.shape]
    write(
        np.pad(image.data, [(n, n) for n in extra]),
        image.grid.box([-n for n in extra], [n + more for n, more in zip(image.grid.shape, extra, strict=True)]),
        folder / "initial.nii.gz",
    )
    return folder / "initial.nii.gz"


def measured(template: Image, last: Mapping[str, Chain], chains: Mapping[str, Chain], scans: Scans) -> Row:
    """The measures of a template.

    Args:
        template: the last one.
        last: transforms of the last registrations, from the template that they were to.
        chains: the same from the last template.
        scans: files by name.
    """
    mean = mean_of({name: [image] for name, (image, _) in scans.items()}, chains, template)
    content = mean.content
    return {
        "dice": overlap([read(labels) for _, labels in scans.values()], [chains[n] for n in scans], mean.grid).dice,
        "sharpness": sharpness(mean.channels[0].data, mean.grid),
        "template_sharpness": sharpness(template.data, template.grid),
        "last_shape_mm": mean_shape(last.values(), mean.grid, foreground(template.data)).mean_mm,
        "bias_mm": mean_shape(chains.values(), mean.grid, content).mean_mm,
    }


def cpu_seconds() -> float:
    """CPU time of this process and those that it has ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def ours(scans: Scans, folder: Path, given: argparse.Namespace) -> Row:
    """A row of maxca."""
    options = TemplateOptions(iterations=given.iterations, effort=given.effort, sharpen=given.sharpen)
    one = RegistrationOptions(effort=given.effort, threads=1, model="none")
    out = folder / "maxca"
    begin, used = time.perf_counter(), cpu_seconds()
    made = maxca.build_template([image for image, _ in scans.values()], out, options, one, CohortOptions(given.cores))
    seconds, used = time.perf_counter() - begin, cpu_seconds() - used
    number = len(made.record.iterations)
    place = out / ITERATIONS / f"{number - 1:02d}" / REGISTRATIONS
    last = {name: read_transform(place / name / "transform.h5") for name in scans}
    chains = {name: read_transform(out / TRANSFORMS / f"{name}.h5") for name in scans}
    for each in made.record.iterations:
        row = {"scans": len(scans), "spacing_mm": given.spacing, **asdict(each)}
        add(row, given.output.with_stem(f"{given.output.stem}_iterations"))
    row = measured(made.image, last, chains, scans)
    name = f"maxca {given.effort}{' --sharpen' if given.sharpen else ''}"
    return {"method": name, "iterations": number, **row, "seconds": seconds, "cpu_seconds": used}


def theirs(scans: Scans, folder: Path, given: argparse.Namespace) -> Row:
    """A row of ANTsPy."""
    work = folder / "ants"
    work.mkdir()
    start = ants.image_read(str(initial(scans, folder)))
    images = [ants.image_read(str(image)) for image, _ in scans.values()]
    begin, used = time.perf_counter(), cpu_seconds()
    made = ants.build_template(
        initial_template=start,
        image_list=images,
        iterations=given.ants_iterations,
        output_dir=str(work),
        reg_iterations=tuple(given.ants_steps),
    )
    seconds, used = time.perf_counter() - begin, cpu_seconds() - used
    ants.image_write(made, str(work / "template.nii.gz"))
    template = read(work / "template.nii.gz")
    # The last registrations are to the template before its last update, which precedes them.
    average = Chain((read_transform(work / "avgAffine.mat").as_affine().inverse()[0],))
    update = [*read_transform(work / "avgWarp.nii.gz").steps, *average.steps]
    last = {}
    for number, name in enumerate(scans):
        place = work / f"img{number:04d}"
        warp, affine = read_transform(place / "out1Warp.nii.gz"), read_transform(place / "out0GenericAffine.mat")
        last[name] = Chain((*warp.steps, *affine.steps))
    row = measured(template, last, {name: Chain((*update, *chain.steps)) for name, chain in last.items()}, scans)
    steps = "x".join(map(str, given.ants_steps))
    return {
        "method": f"ANTsPy SyN {steps}",
        "iterations": given.ants_iterations,
        **row,
        "seconds": seconds,
        "cpu_seconds": used,
    }


def rows(given: argparse.Namespace) -> Iterator[Row]:
    """A row for each method."""
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        folder = Path(temporary)
        scans = prepared(given.data, given.scans, given.spacing, folder)
        yield ours(scans, folder, given)
        yield theirs(scans, folder, given)


def add(row: Row, path: Path) -> None:
    """Add a row to a table."""
    row = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()}
    print(row, flush=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Run, print and add to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scans", type=int, default=15)
    parser.add_argument("--spacing", type=float, default=3.0)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--effort", choices=("fast", "balanced", "accurate"), default="fast")
    parser.add_argument("--sharpen", action="store_true")
    parser.add_argument("--ants-iterations", type=int, default=4)
    parser.add_argument("--ants-steps", type=int, nargs=3, default=[40, 20, 0])
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "templates.csv")
    given = parser.parse_args()
    for row in rows(given):
        add({"scans": given.scans, "spacing_mm": given.spacing, "cores": given.cores, **row}, given.output)


if __name__ == "__main__":
    main()
