"""maxca with and without a model compared with greedy, ANTs SyN and elastix: ``maxca evaluate`` on three data sets.

    python benchmarks/versus_peers.py ../shared/data                          # all three
    python benchmarks/versus_peers.py ../shared/data --set hippocampus --methods maxca-balanced+auto,greedy

Existing rows are skipped: run the same command to resume, and delete a row to repeat it. `make results` computes
docs/results.md from them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

METHODS = "maxca-balanced+auto,maxca-balanced,maxca-fast,maxca-accurate,greedy,syn,elastix"
SETS = {
    "brain": ("oasis/pairs_val.csv", "inter", METHODS),
    "brain-models": ("oasis/pairs_val.csv", "inter", "maxca-balanced,maxca-balanced+brain-t1,maxca-balanced+synth"),
    "rescan": ("oasis/pairs_val.csv", "rescan", METHODS),
    "cardiac": ("acdc/pairs_val.csv", None, METHODS),
    "cardiac-models": ("acdc/pairs_val.csv", None, "maxca-balanced,maxca-balanced+synth"),
    "hippocampus": ("hippocampus/pairs_val.csv", None, METHODS),
    "hippocampus-models": ("hippocampus/pairs_val.csv", None, "maxca-balanced,maxca-balanced+synth"),
}
RESULTS = Path(__file__).with_name("results")


def command(data: Path, name: str, methods: str | None, threads: int, results: Path) -> list[str]:
    """The command line of one set."""
    pairs, group, usual = SETS[name]
    options = ["--pairs", str(data / pairs), "--name", name, "--methods", methods or usual, "--threads", str(threads)]
    options += ["-o", str(results / f"{name}.csv")]
    return [sys.executable, "-m", "maxca", "evaluate", *options, *(["--group", group] if group else [])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder that holds oasis, acdc and hippocampus")
    parser.add_argument("--set", choices=tuple(SETS), action="append", help="only this one; repeatable")
    parser.add_argument(
        "--methods", help=f"by default {METHODS}; for the sets named models, those used only when named explicitly"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.set or SETS:
        subprocess.run(command(options.data, name, options.methods, options.threads, options.output), check=True)


if __name__ == "__main__":
    main()
