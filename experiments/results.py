"""docs/results.md, its appendix and a table of the README, computed from the tables of benchmarks and experiments.

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
from results_guided import guided
from results_images import contrasts, corrupted, smooth
from results_networks import costs, labelled, levels, steps, swapped, varied
from results_peers import PEERS, headline, peers
from results_summary import summary
from results_verdict import judged

from maxca.evaluate.figures import against_folding, against_time
from maxca.evaluate.rows import names, read_rows

DOCS = Path(__file__).parents[1] / "docs"
PAGE, APPENDIX = DOCS / "results.md", DOCS / "results-appendix.md"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- by make results -->", "<!-- to here -->"
START = """# Results

**Data.** Inter-subject and test–retest brain MR from OASIS (labels: Neuromorphometrics), cardiac cine MR from ACDC, and
hippocampi from the Medical Segmentation Decathlon. No network was trained on the subjects of these pairs. However,
settings of the optimiser were tuned on four of the ten brain pairs, and the checkpoint of each training was selected
on such validation pairs.

**Statistics.** Differences are paired, and called significant where the 95 % confidence interval (CI) of the mean
difference excludes zero. Intervals are bootstrap intervals, or Student's t for fewer than six values, and are not
corrected for multiple comparisons; p values in the appendix are (Holm). r is the matched-pairs rank-biserial
correlation, an effect size from −1 to 1.

**Reproducibility.** Every number is computed by `make results` from the tables in `benchmarks/results` and
`experiments/results`, measured on one machine with two CPU cores. The [appendix](results-appendix.md) has all tables
and the command that reproduces a row of each. The registrations of maxca in these tables were measured with an earlier
default smoothness; the [decision](decisions/2026-11-27-relaxation.md) has what the present one changes.
"""
APPENDIX_START = """# Appendix to the results

All tables behind the [results](results.md), which explain data and statistics. Values are mean ± SD, intervals in
brackets 95 % CIs of the mean.
"""


def page() -> str:
    """The page of results."""
    return _text([START, *summary()])


def appendix() -> str:
    """The appendix: every table and figure."""
    networks = swapped(), labelled(), levels(), varied(), costs(), steps()
    parts = peers(), guided(), smooth(), *networks, corrupted(), contrasts(), judged()
    return _text([APPENDIX_START, *chain.from_iterable(parts)])


def _text(lines: Sequence[str]) -> str:
    """The lines of a page, with one line break at its end."""
    return "\n".join(lines).rstrip() + "\n"


def draw(folder: Path) -> None:
    """Draw the figures of all tables that have rows."""
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
    """The README with its table of methods, between the two comments, computed from the rows."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return "".join((before, begin, "\n\n", headline(), "\n\n", end, after))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages and their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    options.output.write_text(page(), encoding="utf-8")
    options.output.with_name(APPENDIX.name).write_text(appendix(), encoding="utf-8")
    if options.output == PAGE:
        README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    draw(options.output.parent / wording.FIGURES)


if __name__ == "__main__":
    main()
