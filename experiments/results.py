"""docs/results.md, and a table of the README, from the tables of benchmarks and experiments: no number is typed.

python experiments/results.py    # or: make results
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import figures
import smoothness
import tables
import wording
from results_images import contrasts, smooth, spoiled
from results_networks import costs, labelled, levels, steps, swapped, varied
from results_peers import PEERS, headline, peers
from results_summary import in_short
from results_verdict import judged

from maxca.evaluate.figures import against_folding, against_time
from maxca.evaluate.rows import names, read_rows

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- by make results -->", "<!-- to here -->"
START = """# Results

Every number on this page is computed by `make results` from the tables in `benchmarks/results` and
`experiments/results`, which the scripts of `benchmarks` and `experiments` wrote on one machine with two CPU cores. An
interval in square brackets is the 95 % interval of a mean: a bootstrap's, of fewer than six values Student's. Two
things are called different only where the interval of their paired difference leaves out zero; intervals are not
corrected for how many there are, p values are (Holm). Images are those of OASIS (with labels of Neuromorphometrics),
ACDC and the Medical Segmentation Decathlon. No network was trained on the people of these pairs; but settings of the
optimiser were chosen looking at four of the ten pairs of brains, and of each training the checkpoint that did best on
such pairs is the one that is kept.
"""


def page() -> str:
    """The whole page."""
    networks = swapped(), labelled(), levels(), varied(), costs(), steps()
    parts = in_short(), peers(), *networks, spoiled(), contrasts(), smooth(), judged()
    return "\n".join([START, *chain.from_iterable(parts)]).rstrip() + "\n"


def draw(folder: Path) -> None:
    """The figures of whatever has rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in ("block_swap", "block_swap_labels", "resolution", "variants"):
        rows = tables.read(tables.RESULTS / f"{script}.csv")
        for name in names(rows, "set"):
            figures.trainings(rows, name, folder / f"{script}-{name}.png")
    if rows := tables.read(tables.RESULTS / "complexity.csv"):
        reached = [row for row in tables.read(tables.RESULTS / "block_swap_labels.csv") if row["set"] == "hippocampus"]
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


def readme(text: str) -> str:
    """The README with its table of other tools as the rows have it, between the two comments around it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return "".join((before, begin, "\n\n", headline(), "\n\n", end, after))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    options.output.write_text(page(), encoding="utf-8")
    if options.output == PAGE:
        README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    draw(options.output.parent / wording.FIGURES)


if __name__ == "__main__":
    main()
