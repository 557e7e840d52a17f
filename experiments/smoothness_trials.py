"""Smoothness by pair: trials on coarse levels, and the error of what follows from them.

    python experiments/smoothness_trials.py ../shared/data PAIRS -o smoothness_trials.csv [--only lung,brain]

PAIRS is the folder of pairs that ``benchmarks/any_organ.py`` made. They, and training pairs of brains, hearts and
hippocampi, are registered with ``balanced``: with local NCC at the default smoothness (``usual``), and as the trials
say (``chosen``), also with local NCC alone (``chosen_lncc``). Errors are those of landmarks in mm, or 1 minus the Dice
of the labels. The gains are those of mutual information in the trials; the trials end where a gain is empty.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from held_out import error
from relaxation import brains, hearts, hippocampi

from maxca.engine.affine import align
from maxca.engine.deformable import maximise
from maxca.engine.settings import Settings, between_contrasts, settings_for
from maxca.engine.support import fitted, image_term, supported
from maxca.geometry import Chain
from maxca.io.pairs import Pair, read_pairs
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.pair import prepare, read_pair
from maxca.runtime import tuned

COLUMNS = (
    *("pair", "same_contrast", "affine", "usual", "chosen", "chosen_lncc", "factor"),
    *("gain_1", "gain_2", "gain_4", "trial_seconds", "usual_seconds"),
)


def pairs(data: Path, made: Path) -> Iterator[tuple[str, Pair]]:
    """The pairs with their names."""
    for folder in sorted(made.iterdir()):
        yield folder.name, read_pairs(folder / "pairs.csv")[0]
    for name, every, found in (("brain", 1, brains), ("heart", 2, hearts), ("hippocampus", 4, hippocampi)):
        for number, inputs in enumerate(list(found(data))[::every]):
            images = [Path(str(each)) for each in inputs]
            yield f"{name} {number}", Pair(images[0], images[1], images[2], images[3])


def row_of(name: str, row: Pair) -> dict[str, object]:
    """The row of one pair."""
    volumes = prepare(
        read_pair(SideInputs(row.fixed), SideInputs(row.moving), RegistrationOptions()), torch.device("cpu")
    )
    fixed, moving = volumes.upright, volumes.moving
    found = align(volumes.fixed, moving)
    usual = settings_for(fixed.grid, "balanced")
    usual = usual if found.same_contrast else between_contrasts(usual)
    begin = time.perf_counter()
    support = supported(fixed, moving, found.affine, usual)
    trial_seconds = time.perf_counter() - begin
    combine = replace(usual, combine="smoother" if found.same_contrast else "always")
    chosen, alone = fitted(combine, support), fitted(usual, support)
    errors: dict[Settings, float] = {}
    seconds = 0.0
    for settings in dict.fromkeys((usual, replace(chosen, combine="never"), alone)):
        begin = time.perf_counter()
        field, _ = maximise(fixed, image_term(fixed, moving, found.affine, settings), settings)
        errors[settings] = error(row, Chain((field, found.affine)))
        seconds = time.perf_counter() - begin if settings == usual else seconds
    gains = [f"{gain:.4f}" for gain in support.gains] + [""] * (3 - len(support.gains))
    each = [errors[usual], errors[replace(chosen, combine="never")], errors[alone]]
    numbers = [f"{value:.4f}" for value in (error(row, Chain((found.affine,))), *each)]
    factor = round(support.smoothness / support.default)
    times = f"{trial_seconds:.1f}", f"{seconds:.1f}"
    return dict(zip(COLUMNS, (name, found.same_contrast, *numbers, factor, *gains, *times), strict=True))


def main() -> None:
    """Compute the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="beginnings of names")
    options = parser.parse_args()
    known = set()
    if options.output.exists():
        with options.output.open() as file:
            known = {row["pair"] for row in csv.DictReader(file)}
    with options.output.open("a", newline="") as file, tuned(1), torch.no_grad():
        writer = csv.DictWriter(file, COLUMNS)
        if not known:
            writer.writeheader()
        for name, row in pairs(options.data, options.pairs):
            if name not in known and name.startswith(tuple(options.only.split(","))):
                writer.writerow(row_of(name, row))
                file.flush()


if __name__ == "__main__":
    main()
