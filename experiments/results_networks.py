"""Results: comparison of blocks in registration networks, and their computational cost."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import product
from statistics import fmean
from types import ModuleType

import block_swap
import block_swap_labels
import complexity
import resolution
import tables
import trials
import variants
from wording import again, exponent, not_yet, partly, picture, said, spread

from maxca.evaluate.rows import Row, names
from maxca.evaluate.statistics import Comparison, compare, holm

EQUAL = "conv=multiply-adds"
LEARNT = 0.01  # Dice: a network that gained less over the initial alignment has not learnt the task


def swapped() -> list[str]:
    """Blocks compared without labels."""
    return trained(
        "Blocks, trained without labels",
        "Five networks, each with eight blocks; channels, losses, order of the data and number of steps are the same.\n"
        "`conv=parameters` and `conv=multiply-adds` are convolutions with as many of either as MAXCA. Networks are\n"
        " small and trainings short, so that three seeds are feasible on a CPU; the ranking after a full training\n"
        " may differ. Intervals treat trainings as independent, although those of one network are correlated.",
        "maxca",
        block_swap,
    )


def labelled() -> list[str]:
    """Blocks compared with labels."""
    return trained(
        "Blocks, trained with labels",
        "The same networks and blocks with Dice of the labels added to the losses, which speeds up learning, and a\n"
        "higher learning rate; VoxelMorph and TransMorph, which learn more slowly and cost less, train longer. This\n"
        "experiment was added after the results without labels were known, because some networks had barely\n"
        "improved on the initial alignment.",
        "maxca",
        block_swap_labels,
    )


def levels() -> list[str]:
    """MAXCA at some resolutions."""
    return trained(
        "Resolution levels",
        "CorrXCA with MAXCA at some levels and convolutions of the same cost at the others: full, half and quarter\n"
        "resolution. Trained with labels. Three of the six seeds were added after the results of the first three were\n"
        "known.",
        "everywhere",
        resolution,
    )


def varied() -> list[str]:
    """Variants of the block and of the network."""
    return trained(
        "Variants of network and block",
        "CorrXCA with MAXCA (two heads, regions of 4 voxels, three levels), one setting changed at a time; where the\n"
        "network changes, also with the convolution of the same cost. `wide` has twice the channels; `temperature` is\n"
        "the initial value of the learnt temperature instead of 1; with `covariances`, queries and keys are not\n"
        "normalised. All are trained with labels.",
        "maxca",
        variants,
    )


def trained(title: str, about: str, base: str, script: ModuleType) -> list[str]:
    """The appendix section of an experiment that trains networks."""
    rows = tables.read(tables.RESULTS / f"{script.__name__}.csv")
    return [f"## {title}", "", about, "", *compared(rows, base, script.__name__, len(script.listed(every())))]


def compared(rows: Sequence[Row], base: str, script: str, planned: int) -> list[str]:
    """A table of trainings, and paired comparisons of one block with the others over networks and seeds."""
    if not rows:
        return [not_yet(f"experiments/{script}.py"), ""]
    lines = [partly(len(rows), planned)] if len(rows) < planned else []
    for name in sorted(names(rows, "set")):
        mine = [row for row in rows if row["set"] == name]
        lines += [f"### {name[0].upper()}{name[1:]}", "", *means(mine), "", *differences(mine, base)]
        if (start := before(name)) is not None:
            little = ", ".join(f"`{network}`" for network in unlearnt(mine))
            poor = f"; no training of {little} improved on it by {LEARNT}, so its rows do not compare blocks"
            lines += ["", f"The initial Dice of these pairs is {start:.4f}{poor if little else ''}."]
        row = " ".join(mine[0][column] for column in trials.KEY[1:])
        lines += ["", picture(f"{script}-{name}", f"Dice of each training, {name}")]
        lines += ["", again(f'python experiments/{script}.py ready --only "{row}" -o row.csv'), ""]
    return lines


def means(rows: Sequence[Row]) -> list[str]:
    """A line for each network and block, mean over seeds; rows of one data set."""
    lines = [
        "| network | block | steps | Dice, mean ± SD | seeds | NDV % | parameters | multiply-adds per voxel |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for network, block in product(names(rows, "network"), names(rows, "block")):
        of_kind = [row for row in rows if (row["network"], row["block"]) == (network, block)]
        if not of_kind:
            continue
        cells = network, block, of_kind[0]["steps"], spread([float(r["dice"]) for r in of_kind]), len(of_kind)
        ndv = fmean(float(r["ndv"]) for r in of_kind)
        spent = (f"{int(of_kind[0][column]):,}" for column in ("parameters", "multiply_adds_per_voxel"))
        lines += ["| " + " | ".join(map(str, (*cells, f"{ndv:.4f}", *spent))) + " |"]
    return lines


def differences(rows: Sequence[Row], base: str) -> list[str]:
    """Paired differences of one block from the others, over all networks and in each; rows of one data set."""
    lines = [f"`{base}` compared with the others, paired over networks and seeds:", ""]
    for block, found in against(rows, base).items():
        p = "" if math.isnan(found.p_holm) else f", p = {found.p_holm:.2g} (Holm)"
        lines += [f"- `{block}` (n = {found.pairs}): {said(found.difference)}{p}."]
    both = [(block, f"{block}, {EQUAL}") for block in names(rows, "block")]
    twins = {a: against(rows, a).get(b) for a, b in both if b in names(rows, "block")}
    told = [f"- `{block}` (n = {c.pairs}): {said(c.difference)}." for block, c in twins.items() if c]
    lines += (
        ["", f"Each network variant compared with itself with `{EQUAL}` in place of MAXCA:", "", *told] if told else []
    )
    if ahead := by_network(rows, base):
        others = list(next(iter(ahead.values())))
        lines += ["", f"Difference in each network, mean over seeds: Dice with `{base}` minus Dice with the other.", ""]
        lines += ["| network | " + " | ".join(others) + " |", "|---|" + "---:|" * len(others)]
        for network, dice in ahead.items():
            cells = ("–" if math.isnan(value) else f"{value:+.4f}" for value in dice.values())
            lines += [f"| {network} | {' | '.join(cells)} |"]
    return lines


def against(rows: Sequence[Row], base: str) -> dict[str, Comparison]:
    """Paired comparisons of one block with the others over networks and seeds; p values are Holm-corrected."""
    dice = {(row["network"], row["seed"], row["block"]): float(row["dice"]) for row in rows}
    found = {}
    for block in names(rows, "block"):
        both = [key for key in dice if key[2] == block and (*key[:2], base) in dice]
        if block != base and both:
            found[block] = compare([dice[(*key[:2], base)] for key in both], [dice[key] for key in both])
    corrected = holm([comparison.p for comparison in found.values()])
    return {block: found[block]._replace(p_holm=p) for block, p in zip(found, corrected, strict=True)}


def before(name: str) -> float | None:
    """Dice of the validation pairs of a data set before registration."""
    known = {row["set"]: float(row["dice"]) for row in tables.read(tables.RESULTS / trials.UNMOVED)}
    return known.get(name)


def unlearnt(rows: Sequence[Row]) -> list[str]:
    """Networks of which no training improved on the initial alignment by ``LEARNT``; rows of one data set."""
    start = before(rows[0]["set"])
    best: dict[str, float] = {}
    for row in rows:
        best[row["network"]] = max(best.get(row["network"], 0.0), float(row["dice"]))
    return [network for network, dice in best.items() if start is not None and dice < start + LEARNT]


def by_network(rows: Sequence[Row], base: str) -> dict[str, dict[str, float]]:
    """The same differences in each network, mean over seeds, if there are several networks.

    Returns:
        network → block → Dice with ``base`` minus Dice with the block, NaN where no seed has both.
    """
    networks, blocks = names(rows, "network"), names(rows, "block")
    if len(networks) < 2:
        return {}
    ahead: dict[str, dict[str, float]] = {}
    for network in networks:
        found = against([row for row in rows if row["network"] == network], base)
        ahead[network] = {b: found[b].difference.mean if b in found else math.nan for b in blocks if b != base}
    return ahead


def costs() -> list[str]:
    """Time and memory by resolution."""
    lines = ["## Computational cost", ""]
    rows = tables.read(tables.RESULTS / "complexity.csv")
    if not rows:
        return [*lines, not_yet("experiments/complexity.py"), ""]
    planned = sum(map(len, complexity.SHOWN.values())) * len(complexity.SIDES)
    lines += [partly(len(rows), planned)] if len(rows) < planned else []
    sides = sorted({int(row["side"]) for row in rows})
    heads = " | ".join(f"s at {side}³" for side in sides)
    lines += [
        "Forward pass of whole networks, median of three, on two CPU cores; time grows with the number of voxels to",
        "the power of the exponent, fitted to all sizes. The scaling of single blocks, including self-attention, is in",
        "[How MAXCA works](concepts/maxca.md).",
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
    lines += ["", *_spent(rows, sides[-1])]
    lines += ["", picture("complexity", "Seconds and memory by voxels, and Dice by seconds")]
    row = rows[0]
    one = f"{row['network']} {row['block']} {row['side']}"
    return [*lines, "", again(f'python experiments/complexity.py --only "{one}" -o row.csv'), ""]


def _spent(rows: Sequence[Row], side: int) -> list[str]:
    """Ratio of the time and memory of MAXCA to those of the other blocks in the same network, at one size."""
    at = {(row["network"], row["block"]): row for row in rows if int(row["side"]) == side}
    return [
        f"- `{network}` at {side}³: `maxca` takes "
        + " and ".join(
            f"{float(at[network, 'maxca'][column]) / float(row[column]):.2f} × the {unit}"
            for column, unit in (("seconds", "time"), ("extra_gb", "memory"))
        )
        + f" of `{block}`"
        + "."
        for (network, block), row in at.items()
        if block != "maxca" and (network, "maxca") in at
    ]


def steps() -> list[str]:
    """Time and memory of a step of training."""
    lines = ["## Training step", ""]
    rows = tables.read(tables.BENCHMARKS / "training_speed.csv")
    if not rows:
        return [*lines, not_yet("benchmarks/training_speed.py"), ""]
    lines += [
        "One step of the network of `paper_brain` in bfloat16 on one pair: forward, loss, backward and optimiser.",
        "`reference` is a literal implementation of the formulas; `checkpointing` recomputes activations in the",
        "backward pass instead of storing them.",
        "",
        "| voxels | implementation | seconds per step | GB | threads |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        spent = f"– | {row['error']}" if row["error"] else f"{float(row['seconds_per_step']):.1f} | {row['peak_gb']}"
        lines += [f"| {row['shape'].replace('x', ' × ')} | {row['way']} | {spent} | {row['threads']} |"]
    shape = " ".join(rows[0]["shape"].split("x"))
    again_with = f'--shape {shape} --ways "{rows[0]["way"]}" --threads {rows[0]["threads"]} -o row.csv'
    return [*lines, "", again(f"python benchmarks/training_speed.py {again_with}"), ""]


def every() -> argparse.Namespace:
    """The options with which an experiment is complete."""
    return argparse.Namespace(seeds=None, set=None)
