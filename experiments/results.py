"""docs/results.md from the tables of the benchmarks and experiments: no number on that page is typed.

python experiments/results.py    # or: make results
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean

import figures
import smoothness
import tables
import wording
from results_images import contrasts, of, smooth, spoiled
from results_networks import branches, costs, levels, steps, swapped, varied
from wording import again, not_yet, opposite, picture, said

from maxca.evaluate.figures import against_folding, against_time
from maxca.evaluate.rows import names, read_rows
from maxca.evaluate.summary import comparisons, markdown

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
PEERS = {
    "brain": ("Brains of different people", "oasis/pairs_val.csv"),
    "brain-models": ("Brains of different people, a network asked by name", "oasis/pairs_val.csv"),
    "rescan": ("The same brain twice", "oasis/pairs_val.csv"),
    "cardiac": ("Hearts, end of diastole and end of systole", "acdc/pairs_val.csv"),
    "cardiac-models": ("Hearts, a network asked by name", "acdc/pairs_val.csv"),
    "hippocampus": ("Hippocampi of different people", "hippocampus/pairs_val.csv"),
    "hippocampus-models": ("Hippocampi, a network asked by name", "hippocampus/pairs_val.csv"),
}

START = """# Results

Every number on this page is computed by `make results` from the tables in `benchmarks/results` and
`experiments/results`, which the scripts of `benchmarks` and `experiments` wrote on one machine with two CPU cores. An
interval in square brackets is the 95 % bootstrap interval of a mean. Two things are called different only where the
interval of their paired difference leaves out zero. Images are those of OASIS (with labels of Neuromorphometrics), ACDC
and the Medical Segmentation Decathlon. No network was trained on the people of these pairs; but settings of the
optimiser were chosen looking at four of the ten pairs of brains, and of each training the checkpoint that did best on
such pairs is the one that is kept.
"""


def page() -> str:
    """The whole page."""
    parts = peers(), swapped(), branches(), levels(), varied(), costs(), steps(), spoiled(), contrasts(), smooth()
    return "\n".join([START, *chain.from_iterable(parts)]).rstrip() + "\n"


def peers() -> list[str]:
    """Ours beside other tools."""
    lines = ["## Beside other tools", ""]
    for name, (title, pairs) in PEERS.items():
        rows = read_rows(tables.BENCHMARKS / f"{name}.csv")
        lines += [f"### {title}", ""]
        if not rows:
            lines += [not_yet(f"benchmarks/versus_peers.py --set {name}"), ""]
            continue
        ours, pair = rows[0]["method"], rows[0]["pair"]
        lines += [markdown(rows, ours).rstrip(), ""]
        for other, found in comparisons(rows, ours).items():
            share = fmean(of(rows, ours, "seconds")) / fmean(of(rows, other, "seconds"))
            if other.startswith(f"{ours}+"):
                told = f"- `{other}` against `{ours}`: {said(found.difference, 'Dice')}"
                lines += [f"{told}, in {1 / share:.2f} × the time."]
            elif not other.startswith("maxca"):
                told = f"- `{ours}` against `{other}`: {said(opposite(found.difference), 'Dice')}"
                lines += [f"{told}, in {share:.2f} × the time."]
        lines += ["", picture(f"peers-{name}", f"Dice by seconds, {title.lower()}")]
        lines += [
            "",
            again(f"maxca evaluate --pairs ../shared/data/{pairs} --pair {pair} --methods {ours} -o row.csv"),
            "",
        ]
    return lines


def draw(folder: Path) -> None:
    """The figures of whatever has rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in ("block_swap", "ablation", "resolution", "variants"):
        rows = tables.read(tables.RESULTS / f"{script}.csv")
        for name in names(rows, "set"):
            figures.trainings(rows, name, folder / f"{script}-{name}.png")
    if rows := tables.read(tables.RESULTS / "complexity.csv"):
        reached = [row for row in tables.read(tables.RESULTS / "block_swap.csv") if row["set"] == "hippocampus"]
        figures.costs(rows, reached, folder / "complexity.png")
    rows = read_rows(tables.RESULTS / "robustness.csv")
    for name in dict.fromkeys(row["set"].split()[0] for row in rows):
        figures.corruptions(rows, name, folder / f"robustness-{name}.png")
    for name in smoothness.SETS:
        if rows := read_rows(tables.RESULTS / f"smoothness-{name}.csv"):
            against_folding(rows, folder / f"smoothness-{name}.png")
    for name in PEERS:
        if rows := read_rows(tables.BENCHMARKS / f"{name}.csv"):
            against_time(rows, folder / f"peers-{name}.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    options.output.write_text(page(), encoding="utf-8")
    draw(options.output.parent / wording.FIGURES)


if __name__ == "__main__":
    main()
