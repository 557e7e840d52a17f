"""Answers on the page of results about networks and blocks, one function per question."""

from __future__ import annotations

import math

import tables
from results_networks import EQUAL, LEARNT, against, by_network, unlearnt
from wording import counted, exponent, grouped, listed, tally

from maxca.evaluate.rows import Row, names
from maxca.evaluate.statistics import Comparison

OTHERS = {
    EQUAL: "the convolution with as many multiply-adds",
    "conv=parameters": "the convolution with as many parameters",
    "window": "shifted-window attention",
    "gmlp": "the gated MLP",
}
PARTS = {"regional": "the regional branch", "dilated": "the dilated branch", "xca": "attention over all voxels"}
LEVELS = {
    "nowhere": "convolutions at every level",
    "quarter": "MAXCA at quarter resolution only",
    "half and quarter": "MAXCA at half and quarter resolution",
    "full": "MAXCA at full resolution only",
}
SETS = {"brain": "brains", "cardiac": "hearts", "hippocampus": "hippocampi"}
SCRIPTS = {"block_swap": "without labels", "block_swap_labels": "with labels"}
LARGEST = 5  # sizes over which the exponents of single blocks are fitted
WAYS = {  # of training_speed.csv
    "ours": "without checkpointing",
    "ours, checkpointing": "with checkpointing",
    "reference": "for a literal implementation of the formulas",
}


def blocks() -> list[str]:
    """MAXCA against blocks that are not part of it, on each data set, and in how many networks."""
    sentences, equal, ahead, little = [], [], [], set()
    for title, rows in trainings():
        found = against(rows, "maxca")
        equal += [found[EQUAL]] if EQUAL in found else []
        values = [blocks.get(EQUAL, math.nan) for blocks in by_network(rows, "maxca").values()]
        ahead += [value > 0 for value in values if not math.isnan(value)]
        little |= {f"{network} on {title}" for network in unlearnt(rows)}
        if shown := {name: found[block] for block, name in OTHERS.items() if block in found}:
            sizes = " and ".join(counted(len(names(rows, what)), what) for what in ("network", "seed"))
            sentences += [f"On {title} ({sizes}), MAXCA showed {grouped(shown)}."]
    if equal:
        told = f"Compared with {OTHERS[EQUAL]}, MAXCA showed {tally(equal)}"
        by = (
            f"; its mean was higher in {sum(ahead)} of {len(ahead)} combinations of experiment and network"
            if ahead
            else ""
        )
        sentences.insert(0, f"{told}{by}.")
    if little:
        told = f"Some networks improved on the initial Dice by less than {LEARNT}, so their comparison is uninformative"
        sentences += [f"{told}: {listed(sorted(little))}."]
    return sentences


def parts() -> list[str]:
    """MAXCA against its parts."""
    sentences: list[str] = []
    every: list[Comparison] = []
    for title, rows in trainings():
        found = against(rows, "maxca")
        if shown := {name: found[block] for block, name in PARTS.items() if block in found}:
            every += shown.values()
            sentences += [f"On {title}, it showed {grouped(shown)}."]
    about = "The full block was compared with its branches and with cross-covariance attention over all voxels"
    return [f"{about}: {tally(every)}.", *sentences] if every else []


def finest() -> list[str]:
    """MAXCA at all levels of a network against MAXCA at some of them."""
    sentences = []
    rows = tables.read(tables.RESULTS / "resolution.csv")
    for name in names(rows, "set"):
        mine = [row for row in rows if row["set"] == name]
        found = {LEVELS.get(block, block): comparison for block, comparison in against(mine, "everywhere").items()}
        if found:
            about = f"On {SETS.get(name, name)}, trained with labels ({counted(len(names(mine, 'seed')), 'seed')})"
            sentences += [f"{about}, CorrXCA with MAXCA at every level showed {grouped(found)}."]
    return sentences


def trainings() -> list[tuple[str, list[Row]]]:
    """Description of an experiment → its rows, one for each data set and way of training."""
    found = []
    for script, how in SCRIPTS.items():
        rows = tables.read(tables.RESULTS / f"{script}.csv")
        of_set = {name: [row for row in rows if row["set"] == name] for name in names(rows, "set")}
        found += [(f"{SETS.get(name, name)} {how}", mine) for name, mine in of_set.items()]
    return found


def cost() -> list[str]:
    """Growth of time and memory of each block with the number of voxels."""
    sentences = []
    rows = sorted(tables.read(tables.BENCHMARKS / "block_scaling.csv"), key=lambda row: int(row["side"]))
    for block, title in {"maxca": "one MAXCA block", "self_attention": "one block of self-attention"}.items():
        mine = [row for row in rows if row["block"] == block][-LARGEST:]
        if len(mine) > 1:
            voxels = [float(row["voxels"]) for row in mine]
            time, memory = (exponent(voxels, [float(row[c]) for row in mine]) for c in ("seconds", "extra_gb"))
            told = f"time grows with the number of voxels to the power of {time} and memory to the power of {memory}"
            sentences += [f"For {title}, {told} ({mine[0]['side']}³ to {mine[-1]['side']}³ voxels)."]
    return sentences


def training() -> list[str]:
    """Time and memory of a training step, by size and implementation."""
    by_shape: dict[str, list[str]] = {}
    for row in tables.read(tables.BENCHMARKS / "training_speed.csv"):
        spent = row["error"] or f"{float(row['seconds_per_step']):.1f} s and {row['peak_gb']} GB"
        by_shape.setdefault(row["shape"], []).append(f"{spent} {WAYS.get(row['way'], row['way'])}")
    about = "a step of the network of `paper_brain` on two CPU cores takes"
    return [f"At {shape.replace('x', ' × ')} voxels, {about} {listed(told)}." for shape, told in by_shape.items()]
