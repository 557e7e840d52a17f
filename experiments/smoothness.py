"""Dice against folding as smoothness varies: methods are compared at equal folding, not at their defaults.

    python experiments/smoothness.py ../shared/data                    # hours; resumes
    python experiments/smoothness.py ../shared/data --set hippocampus

``maxca evaluate`` on evenly spaced pairs of each set, every method at each smoothness, including the default of maxca
(twice the smallest spacing); elastix at suitable control-point spacings (its default is 10 mm): a grid as fine as
the voxels folds, and took more than five minutes of CPU on a heart before it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import tables

METHODS = "maxca-balanced,maxca-balanced+auto,maxca-fast,maxca-accurate,greedy,syn"
# The list, the group of its pairs, their number, the smoothness in mm, and the spacings of elastix.
SETS = {
    "hippocampus": ("hippocampus/pairs_val.csv", None, 12, "0.5,1,2,3,4", "0.5,1,2,4,8,16"),
    "cardiac": ("acdc/pairs_val.csv", None, 8, "1.5,3,4.5,6,12", "5,10,20,40"),
    "brain": ("oasis/pairs_val.csv", "inter", 4, "1,2,3,4,8", "5,10,20,40"),
}


def main() -> None:
    """Compute the missing rows of each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder that holds oasis, acdc and hippocampus")
    parser.add_argument("--set", choices=tuple(SETS), action="append", help="only this one; repeatable")
    parser.add_argument("--methods", help=f"by default {METHODS} and elastix")
    parser.add_argument("--threads", type=int, default=1, help="of each registration")
    parser.add_argument("--jobs", type=int, default=2, help="parallel registrations; times are not used here")
    parser.add_argument("--quick", action="store_true", help="one pair, one method, two smoothnesses")
    parser.add_argument("-o", "--output", type=Path, default=tables.RESULTS, help="folder of the tables")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.set or SETS:
        pairs, group, count, mm, distances = SETS[name]
        chosen = numbers(options.data / pairs, group)
        chosen = chosen[:: max(1, len(chosen) // count)][:count]
        methods = options.methods or ",".join([METHODS, *(f"elastix@{word}" for word in distances.split(","))])
        if options.quick:
            chosen, mm, methods = chosen[:1], "2,4", "maxca-fast"
        out = options.output / f"smoothness-{name}.csv"
        command = [sys.executable, "-m", "maxca", "evaluate", "--pairs", str(options.data / pairs), "--name", name]
        command += ["--methods", methods, "--smoothness", mm, "--threads", str(options.threads)]
        command += ["--jobs", str(options.jobs), "-o", str(out)]
        subprocess.run([*command, *(word for n in chosen for word in ("--pair", str(n)))], check=True)


def planned(name: str) -> int:
    """Number of rows of a complete data set."""
    _, _, count, mm, distances = SETS[name]
    return count * (len(METHODS.split(",")) * len(mm.split(",")) + len(distances.split(",")))


def numbers(pairs: Path, group: str | None) -> list[int]:
    """Indices of the pairs of a list in a group."""
    with pairs.open(newline="", encoding="utf-8") as file:
        return [n for n, row in enumerate(csv.DictReader(file)) if group is None or row.get("group") == group]


if __name__ == "__main__":
    main()
