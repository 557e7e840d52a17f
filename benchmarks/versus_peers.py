"""maxca with and without a model compared with greedy, ANTs SyN and elastix: ``maxca evaluate`` on three data sets.

    python benchmarks/versus_peers.py ../shared/data                          # all three
    python benchmarks/versus_peers.py ../shared/data --set hippocampus --methods maxca-balanced+auto,greedy
    python benchmarks/versus_peers.py ../shared/data --set brain --times 3      # times of 3 pairs again, in one run

Existing rows are skipped: run the same command to resume, and delete a row to repeat it. Rows may come from several
runs on loaded machines; ``--times`` then measures seconds and memory of all methods on evenly spaced pairs in one run
on a quiet machine, and removes those of the other pairs. `make results` computes docs/results.md from the tables.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from maxca.evaluate.rows import Row, append, key, names, read_rows
from maxca.io.atomic import atomic_path

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


TIMES = ("seconds", "peak_mb", "threads")


def command(data: Path, name: str, methods: str | None, threads: int, results: Path) -> list[str]:
    """The command line of one set."""
    pairs, group, usual = SETS[name]
    options = ["--pairs", str(data / pairs), "--name", name, "--methods", methods or usual, "--threads", str(threads)]
    options += ["-o", str(results / f"{name}.csv")]
    return [sys.executable, "-m", "maxca", "evaluate", *options, *(["--group", group] if group else [])]


def measure_times(data: Path, name: str, count: int, threads: int, results: Path) -> None:
    """Replace the times of a table by those of one run on evenly spaced pairs."""
    table, timed = results / f"{name}.csv", results / f"{name}-times.csv"
    rows = read_rows(table)
    pairs = names(rows, "pair")
    run = command(data, name, ",".join(names(rows, "method")), threads, results)
    run[run.index(str(table))] = str(timed)
    chosen = pairs[:: max(1, len(pairs) // count)][:count]
    subprocess.run([*run, *(word for pair in chosen for word in ("--pair", pair))], check=True)
    with atomic_path(table) as unfinished:
        append(unfinished, with_times(rows, read_rows(timed)))
    for path in results.glob(f"{name}-times*"):
        path.unlink()


def with_times(rows: Sequence[Row], timed: Sequence[Row]) -> list[Row]:
    """The rows with the times of the timed ones, and without any elsewhere."""
    found = {key(row): {column: row[column] for column in TIMES} for row in timed}
    return [row | found.get(key(row), dict.fromkeys(TIMES, "")) for row in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder that holds oasis, acdc and hippocampus")
    parser.add_argument("--set", choices=tuple(SETS), action="append", help="only this one; repeatable")
    parser.add_argument(
        "--methods", help=f"by default {METHODS}; for the sets named models, those used only when named explicitly"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, metavar="PAIRS", help="only measure the times of this many pairs again")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.set or SETS:
        if options.times:
            measure_times(options.data, name, options.times, options.threads, options.output)
            continue
        subprocess.run(command(options.data, name, options.methods, options.threads, options.output), check=True)


if __name__ == "__main__":
    main()
