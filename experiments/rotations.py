"""Affine registrations of images at random rotations to each other.

    python experiments/rotations.py ../shared/data -o experiments/results/rotations.csv [--starts 15]

Pairs of validation subjects (brains of OASIS, hearts of ACDC, hippocampi) and a chest CT with its follow-up are
registered by the affine of maxca. Then the header of the moving image is rotated about its middle by a random rotation,
uniform over all rotations, and the pair is registered again. The truth is that rotation after the first registration.
``error_degrees`` is the angle between the rotations of both affines, ``error_mm`` their mean distance over the
foreground of the fixed image. ``seconds`` is the processor time of the affine with ``auto``, on one thread;
``near_off`` and ``near_auto`` are those of the pair that is not rotated, without and with it, and ``unchanged`` says
whether both end with the same bits. ``fits`` is what ``--search auto`` compares with 1.1, if it kept the initialisation
nearby. Rows of an existing table are not computed again.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tables
import torch
from scipy.spatial.transform import Rotation

from maxca.engine.affine import AffineSettings, Alignment, align
from maxca.engine.volume import Volume, content_box, crop, foreground, margin_of
from maxca.geometry import Affine, Grid
from maxca.io.images import Image, read
from maxca.io.pairs import read_pairs
from maxca.registration.inputs import read_side
from maxca.registration.pair import prepared_volume
from maxca.runtime import tuned

LISTS = {"brain": "oasis", "heart": "acdc", "hippocampus": "hippocampus"}
NAMES = ("kind", "start", "fixed", "moving", "degrees", "error_degrees", "error_mm", "turned", "fits")
COLUMNS = (*NAMES, "seconds", "near_off", "near_auto", "unchanged")


@dataclass(frozen=True)
class Case:
    """A pair, and the same with a rotated header."""

    fixed: Image
    moving: Image
    rotation: Affine

    @property
    def rotated(self) -> Image:
        """The moving image with the rotated header."""
        grid = self.moving.grid
        return replace(self.moving, grid=Grid(grid.shape, self.rotation.matrix @ grid.affine))


def pairs(data: Path, kind: str) -> list[tuple[Path, Path]]:
    """Fixed and moving files."""
    if kind == "chest CT":
        return [(data / "organs/lung/fixed.nii.gz", data / "organs/lung/moving.nii.gz")]
    listed = read_pairs(data / LISTS[kind] / "pairs_val.csv")
    return [(Path(pair.fixed), Path(pair.moving)) for pair in listed]


def cases(data: Path, kind: str, starts: int) -> Iterator[tuple[int, Path, Path, Case]]:
    """Pairs in the order of their list, each with another rotation."""
    files = pairs(data, kind)
    for start in range(starts):
        fixed, moving = files[start % len(files)]
        image = read(moving)
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.random(random_state=start).as_matrix()
        matrix[:3, 3] = image.grid.center - matrix[:3, :3] @ image.grid.center
        yield start, fixed, moving, Case(read(fixed), image, Affine(matrix))


def volume(image: Image) -> Volume:
    """The image as the engine takes it."""
    whole = prepared_volume(read_side("image", image), torch.device("cpu"))
    return crop(whole, *content_box(whole, margin_of(whole.grid)))


def timed(fixed: Image, moving: Image, search: str) -> tuple[Alignment, float]:
    """The affine of maxca, and its processor time."""
    volumes = volume(fixed), volume(moving)
    begin = time.process_time()
    found = align(*volumes, AffineSettings(search=search))  # type: ignore[arg-type]
    return found, time.process_time() - begin


def error(case: Case, found: Affine, truth: Affine) -> dict[str, object]:
    """Angle and mean distance between two affines."""
    (a, b) = ((lambda u, _, v: u @ v)(*np.linalg.svd(each.matrix[:3, :3])) for each in (found, truth))
    content = np.argwhere(foreground(case.fixed.data))
    points = case.fixed.grid.to_world(content[:: max(1, len(content) // 5000)])
    apart = np.linalg.norm(found.map_points(points) - truth.map_points(points), axis=1).mean()
    degrees = np.degrees(Rotation.from_matrix(a @ b.T).magnitude())
    turned = np.degrees(Rotation.from_matrix(case.rotation.matrix[:3, :3]).magnitude())
    return {"degrees": f"{turned:.1f}", "error_degrees": f"{degrees:.2f}", "error_mm": f"{apart:.2f}"}


def row(case: Case) -> dict[str, object]:
    """The measurements of a start."""
    unrotated, off = timed(case.fixed, case.moving, "off")
    again, auto = timed(case.fixed, case.moving, "auto")
    truth = case.rotation @ unrotated.affine
    turned, seconds = timed(case.fixed, case.rotated, "auto")
    ratio = re.search(r"nearby fits ([\d.]+)", again.searched or "")
    times = {"seconds": f"{seconds:.2f}", "near_off": f"{off:.2f}", "near_auto": f"{auto:.2f}"}
    same = {"unchanged": bool((again.affine.matrix == unrotated.affine.matrix).all()), "turned": turned.turned}
    return error(case, turned.affine, truth) | times | same | {"fits": ratio[1] if ratio else ""}


def main() -> None:
    """Add the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--starts", type=int, default=15, help="of each kind")
    parser.add_argument("--kinds", default="brain,heart,hippocampus,chest CT")
    options = parser.parse_args()
    old = tables.read(options.output)
    done = {(each["kind"], int(each["start"])) for each in old}
    with tuned(1), torch.no_grad():
        for kind in options.kinds.split(","):
            for start, fixed, moving, case in cases(options.data, kind, options.starts):
                if (kind, start) not in done:
                    known = {"kind": kind, "start": start, "fixed": fixed.name, "moving": moving.name}
                    tables.write(options.output, known | row(case), COLUMNS)


if __name__ == "__main__":
    main()
