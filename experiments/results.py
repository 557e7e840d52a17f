"""docs/results.md from the tables of the benchmarks and experiments: no number on that page is typed.

python experiments/results.py    # or: make results
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import chain, groupby, product
from pathlib import Path
from statistics import fmean
from types import ModuleType

import block_swap
import complexity
import contrast
import figures
import resolution
import robustness
import smoothness
import trials
import variants
import wording
from wording import again, bounded, exponent, not_yet, opposite, partly, picture, said, spread

from maxca.evaluate.figures import against_folding, against_time
from maxca.evaluate.rows import Row, names, numbers, read_rows
from maxca.evaluate.statistics import compare
from maxca.evaluate.summary import comparisons, markdown

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks" / "results"
EXPERIMENTS = ROOT / "experiments" / "results"
PAGE = ROOT / "docs" / "results.md"
PEERS = {
    "brain": ("Brains of different people", "oasis/pairs_val.csv"),
    "brain-models": ("Brains of different people, a network asked by name", "oasis/pairs_val.csv"),
    "rescan": ("The same brain twice", "oasis/pairs_val.csv"),
    "cardiac": ("Hearts, end of diastole and end of systole", "acdc/pairs_val.csv"),
    "hippocampus": ("Hippocampi of different people", "hippocampus/pairs_val.csv"),
}
FOLDING = (0.001, 0.01, 0.1)  # percent of the volume, at which smoothnesses are compared

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
    parts = peers(), swapped(), levels(), varied(), costs(), steps(), spoiled(), contrasts(), smooth()
    return "\n".join([START, *chain.from_iterable(parts)]).rstrip() + "\n"


def peers() -> list[str]:
    """Ours beside other tools."""
    lines = ["## Beside other tools", ""]
    for name, (title, pairs) in PEERS.items():
        rows = read_rows(BENCHMARKS / f"{name}.csv")
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


def swapped() -> list[str]:
    """Blocks against each other."""
    return trained(
        "The block, all else the same",
        "Five networks, each with eight blocks; same channels, losses, order of the data and steps; no labels.\n"
        "`conv=parameters` and `conv=multiply-adds` are convolutions as wide as MAXCA has parameters or multiply-adds.",
        "maxca",
        block_swap,
    )


def levels() -> list[str]:
    """MAXCA at some resolutions."""
    return trained(
        "Where in a network",
        "MAXCA at some levels of CorrXCA, convolutions of the same cost at the others: full, half, quarter resolution.",
        "everywhere",
        resolution,
    )


def varied() -> list[str]:
    """What was tried to make MAXCA win."""
    return trained(
        "What was tried to make it better",
        "CorrXCA with MAXCA (two heads, regions of 4 voxels, three levels), one setting changed at a time; where the\n"
        "network is another one, the convolution of the same cost in it too. `wide` has twice the channels.",
        "maxca",
        variants,
    )


def trained(title: str, about: str, base: str, script: ModuleType) -> list[str]:
    """The section of an experiment that trains networks."""
    rows = trials.read(EXPERIMENTS / f"{script.__name__}.csv")
    return [f"## {title}", "", about, "", *compared(rows, base, script.__name__, len(script.listed(every())))]


def compared(rows: list[dict[str, str]], base: str, script: str, planned: int) -> list[str]:
    """A table of trainings, and one block against each other over networks and seeds."""
    if not rows:
        return [not_yet(f"experiments/{script}.py"), ""]
    lines = [partly(len(rows), planned)] if len(rows) < planned else []
    for name, group in groupby(sorted(rows, key=lambda row: row["set"]), key=lambda row: row["set"]):
        mine = list(group)
        steps = ", ".join(dict.fromkeys(row["steps"] for row in mine))
        lines += [
            f"### {name[0].upper()}{name[1:]}, {steps} steps",
            "",
            "| network | block | Dice, mean ± SD | seeds | NDV % | parameters | multiply-adds per voxel | s/step |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for network, block in dict.fromkeys((row["network"], row["block"]) for row in mine):
            of_kind = [row for row in mine if (row["network"], row["block"]) == (network, block)]
            cells = network, block, spread([float(r["dice"]) for r in of_kind]), len(of_kind)
            ndv, step = (fmean(float(r[column]) for r in of_kind) for column in ("ndv", "seconds_per_step"))
            spent = (f"{int(of_kind[0][column]):,}" for column in ("parameters", "multiply_adds_per_voxel"))
            lines += ["| " + " | ".join(map(str, (*cells, f"{ndv:.4f}", *spent, f"{step:.2f}"))) + " |"]
        lines += ["", f"`{base}` minus each other, over networks and seeds that have both:", ""]
        dice = {(r["network"], r["seed"], r["block"]): float(r["dice"]) for r in mine}
        for block in dict.fromkeys(row["block"] for row in mine):
            both = [key for key in dice if key[2] == block and (*key[:2], base) in dice]
            if block != base and both:
                difference = compare([dice[(*key[:2], base)] for key in both], [dice[key] for key in both]).difference
                lines += [f"- row `{block}` ({len(both)}): {said(difference, 'Dice')}."]
        row = " ".join(mine[0][name] for name in trials.KEY[1:])
        lines += ["", picture(f"{script}-{name}", f"Dice of each training, {name}")]
        lines += ["", again(f'python experiments/{script}.py ready --only "{row}" -o row.csv'), ""]
    return lines


def costs() -> list[str]:
    """Time and memory by resolution."""
    lines = ["## What it costs", ""]
    rows = trials.read(EXPERIMENTS / "complexity.csv")
    if not rows:
        return [*lines, not_yet("experiments/complexity.py"), ""]
    planned = sum(map(len, complexity.SHOWN.values())) * len(complexity.SIDES)
    lines += [partly(len(rows), planned)] if len(rows) < planned else []
    sides = sorted({int(row["side"]) for row in rows})
    heads = " | ".join(f"s at {side}³" for side in sides)
    lines += [
        "One pass of whole networks, on two cores; the exponent is that of seconds in voxels, fitted to all sizes.",
        "",
        f"| network | block | {heads} | exponent | GB at {sides[-1]}³ | parameters |",
        "|---|---|" + "---:|" * (len(sides) + 3),
    ]
    for network, block in dict.fromkeys((row["network"], row["block"]) for row in rows):
        mine = {int(r["side"]): r for r in rows if (r["network"], r["block"]) == (network, block)}
        cells = [f"{float(mine[side]['seconds']):.3g}" if side in mine else "–" for side in sides]
        largest = f"{float(mine[sides[-1]]['extra_gb']):.2f}" if sides[-1] in mine else "–"
        slope = exponent([side**3 for side in mine], [float(row["seconds"]) for row in mine.values()])
        spent = f"{int(next(iter(mine.values()))['parameters']):,}"
        lines += [f"| {network} | {block} | {' | '.join(cells)} | {slope} | {largest} | {spent} |"]
    lines += ["", picture("complexity", "Seconds and memory by voxels, and Dice by seconds")]
    row = rows[0]
    one = f"{row['network']} {row['block']} {row['side']}"
    return [*lines, "", again(f'python experiments/complexity.py --only "{one}" -o row.csv'), ""]


def steps() -> list[str]:
    """Time and memory of a step of training."""
    lines = ["## A step of training", ""]
    rows = trials.read(BENCHMARKS / "training_speed.csv")
    if not rows:
        return [*lines, not_yet("benchmarks/training_speed.py"), ""]
    lines += [
        "The network of `paper_brain` in bfloat16: forward, loss, backward and optimiser, of one pair. `reference` is",
        "the same network computed as its formulas read; `checkpointing` computes again what it does not keep.",
        "",
        "| voxels | way | s a step | GB | threads |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        spent = f"– | {row['error']}" if row["error"] else f"{float(row['seconds_per_step']):.1f} | {row['peak_gb']}"
        lines += [f"| {row['shape'].replace('x', ' × ')} | {row['way']} | {spent} | {row['threads']} |"]
    shape = " ".join(rows[0]["shape"].split("x"))
    again_with = f'--shape {shape} --ways "{rows[0]["way"]}" --threads {rows[0]["threads"]} -o row.csv'
    return [*lines, "", again(f"python benchmarks/training_speed.py {again_with}"), ""]


def spoiled() -> list[str]:
    """Images that are worse than one would wish."""
    lines = ["## Bad images", ""]
    rows = [row for row in read_rows(EXPERIMENTS / "robustness.csv") if not row["error"]]
    if not rows:
        return [*lines, not_yet("experiments/robustness.py"), ""]
    lines += [
        "The moving image is spoiled, in three severities; its labels are not. Mean Dice over the same pairs.",
        "",
    ]
    for name in dict.fromkeys(row["set"].split()[0] for row in rows):
        mine = [row for row in rows if row["set"].split()[0] == name]
        pairs, methods = len(names(mine, "pair")), names(mine, "method")
        table = {(row["set"].split()[1], row["set"].split()[2], row["method"], row["pair"]): row for row in mine}
        lines += [f"### {name[0].upper()}{name[1:]}, {pairs} pairs", ""]
        lines += ["| corruption | method | none | 1 | 2 | 3 | NDV % at 3 |", "|---|---|---:|---:|---:|---:|---:|"]
        harmed = []
        for corruption in (c for c in robustness.CORRUPTIONS if any(key[0] == c for key in table)):
            for method in methods:
                dice = [
                    numbers([row for key, row in table.items() if key[:3] == (*what, method)], "dice")
                    for what in (("none", "0"), *((corruption, str(severity)) for severity in robustness.SEVERITIES))
                ]
                last = [row for key, row in table.items() if key[:3] == (corruption, "3", method)]
                ndv = numbers(last, "ndv_percent")
                cells = [*(f"{fmean(d):.3f}" if d else "–" for d in dice), f"{fmean(ndv):.4f}" if ndv else "–"]
                lines += [f"| {corruption} | {method} | {' | '.join(cells)} |"]
            for severity in map(str, robustness.SEVERITIES):
                both = [
                    [float(table[corruption, severity, method, pair]["dice"]) for method in methods[:2]]
                    for pair in names(mine, "pair")
                    if all((corruption, severity, method, pair) in table for method in methods[:2])
                ]
                if both and len(methods) > 1:
                    difference = compare(*zip(*both, strict=True)).difference
                    if difference.high < 0:
                        harmed += [f"{corruption} {severity} ({bounded(difference)})"]
        worse = ", ".join(harmed) or "nowhere"
        lines += ["", f"`{methods[0]}` has less Dice than `{methods[1]}`: {worse}."] if len(methods) > 1 else []
        lines += ["", picture(f"robustness-{name}", f"Dice by severity, {name}"), ""]
    return [*lines, again('python experiments/robustness.py PAIRS.csv --name NAME --only "noise 2" -o row.csv'), ""]


def contrasts() -> list[str]:
    """From one contrast to another, against a known answer."""
    lines = ["## Between contrasts", ""]
    rows = sorted(trials.read(EXPERIMENTS / "contrast.csv"), key=lambda row: [row[name] for name in contrast.KEY[:4]])
    if not rows:
        return [*lines, not_yet("experiments/contrast.py"), ""]
    cases = len({tuple(row[name] for name in contrast.KEY[:4]) for row in rows})
    planned = math.prod(map(len, (contrast.VISITS, contrast.CONTRASTS, contrast.BENDS, contrast.SEEDS)))
    lines += [partly(cases, planned)] if cases < planned else []
    lines += [
        "T1w onto T2w or FLAIR of the same person, one of them bent by a known map: the distance of points of the head",
        f"from where they belong, mean over both visits and {len(contrast.SEEDS)} maps. One person only.",
        "",
        "| moving | bent by | model, similarity | cases | mm before | mm after | mm, worst twentieth | NDV % | s |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, bent, way in product(contrast.CONTRASTS, map(str, contrast.BENDS), contrast.WAYS):
        mine = [
            row
            for row in rows
            if (row["contrast"], row["bend_mm"], row["model"], row["similarity"]) == (kind, bent, *way)
        ]
        if mine:
            columns = ("before_mm", "mean_mm", "p95_mm", "ndv_percent", "seconds")
            before, after, worst, ndv, seconds = (fmean(float(row[c]) for row in mine) for c in columns)
            cells = f"{before:.2f} | {after:.2f} | {worst:.2f} | {ndv:.4f} | {seconds:.1f}"
            lines += [f"| {kind} | {bent} mm | {', '.join(way)} | {len(mine)} | {cells} |"]
    told = []
    for kind in contrast.CONTRASTS:
        apart = _apart([row for row in rows if row["contrast"] == kind], ("none", "mi"), ("none", "lncc"))
        told += [f"- {kind}, all bends, `mi` against `lncc`, no model: {apart}."] if apart else []
    for similarity in ("lncc", "mi"):
        apart = _apart(rows, ("synth", similarity), ("none", similarity))
        taken = sum(row["taken"] == "True" for row in rows if row["similarity"] == similarity)
        if apart:
            told += [f"- All cases, `synth` against no model, `{similarity}`: {apart}; taken {taken} times."]
    row = " ".join(rows[0][name] for name in contrast.KEY[:4])
    return [*lines, "", *told, "", again(f'python experiments/contrast.py PATIENT --only "{row}" -o row.csv'), ""]


def _apart(rows: Sequence[dict[str, str]], one: tuple[str, str], other: tuple[str, str]) -> str:
    """By how much two ways between contrasts differ on the cases that have both, on average and at most."""
    missed = {
        way: {
            tuple(row[name] for name in contrast.KEY[:4]): float(row["mean_mm"])
            for row in rows
            if (row["model"], row["similarity"]) == way
        }
        for way in (one, other)
    }
    both = [case for case in missed[one] if case in missed[other]]
    if not both:
        return ""
    first, second = ([missed[way][case] for case in both] for way in (one, other))
    ends = [a - b for a, b in zip(first, second, strict=True)]
    told = said(compare(first, second).difference, "mm")
    return f"{told} in {len(both)} cases; {min(ends):+.2f} to {max(ends):+.2f} mm in a single one"


def smooth() -> list[str]:
    """Dice at equal folding."""
    lines = [
        "## At equal folding",
        "",
        "Each method at several smoothnesses: the most Dice it reaches while no more than a share of the volume folds.",
        "",
    ]
    for name in smoothness.SETS:
        rows = [row for row in read_rows(EXPERIMENTS / f"smoothness-{name}.csv") if not row["error"]]
        lines += [f"### {name[0].upper()}{name[1:]}", ""]
        if not rows:
            lines += [not_yet(f"experiments/smoothness.py --set {name}"), ""]
            continue
        lines += ["| method | " + " | ".join(f"NDV ≤ {limit:g} %" for limit in FOLDING) + " |"]
        lines += ["|---|" + "---:|" * len(FOLDING)]
        tools = dict.fromkeys(row["method"].partition("@")[0] for row in rows)
        for tool in tools:
            cells = []
            for limit in FOLDING:
                best = best_within(rows, tool, limit)
                cells += [
                    "–" if best is None else f"{fmean(of(rows, best, 'dice')):.4f} at {best.partition('@')[2]} mm"
                ]
            lines += [f"| {tool} | {' | '.join(cells)} |"]
        lines += ["", picture(f"smoothness-{name}", f"Dice by folding, {name}"), ""]
        lines += [again(f"python experiments/smoothness.py ../shared/data --set {name} -o rows"), ""]
    return lines


def best_within(rows: Sequence[Row], tool: str, limit: float) -> str | None:
    """The setting of a tool with the most Dice whose folding stays below a limit."""
    settings = [m for m in names(rows, "method") if m.partition("@")[0] == tool and of(rows, m, "dice")]
    allowed = [m for m in settings if fmean(of(rows, m, "ndv_percent")) <= limit]
    return max(allowed, key=lambda m: fmean(of(rows, m, "dice")), default=None)


def of(rows: Sequence[Row], method: str, column: str) -> list[float]:
    """The numbers of a method."""
    return numbers([row for row in rows if row["method"] == method], column)


def every() -> argparse.Namespace:
    """The options with which an experiment is done in full."""
    return argparse.Namespace(seeds=3, set=None)


def draw(folder: Path) -> None:
    """The figures of whatever has rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in ("block_swap", "resolution", "variants"):
        rows = trials.read(EXPERIMENTS / f"{script}.csv")
        for name in names(rows, "set"):
            figures.trainings(rows, name, folder / f"{script}-{name}.png")
    if rows := trials.read(EXPERIMENTS / "complexity.csv"):
        reached = [row for row in trials.read(EXPERIMENTS / "block_swap.csv") if row["set"] == "hippocampus"]
        figures.costs(rows, reached, folder / "complexity.png")
    rows = read_rows(EXPERIMENTS / "robustness.csv")
    for name in dict.fromkeys(row["set"].split()[0] for row in rows):
        figures.corruptions(rows, name, folder / f"robustness-{name}.png")
    for name in smoothness.SETS:
        if rows := read_rows(EXPERIMENTS / f"smoothness-{name}.csv"):
            against_folding(rows, folder / f"smoothness-{name}.png")
    for name in PEERS:
        if rows := read_rows(BENCHMARKS / f"{name}.csv"):
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
