"""The first section of the page of results: what was claimed, what was asked, and what came out."""

from __future__ import annotations

import math

import smoothness
import tables
from results_images import FOLDING, at_equal, at_smoothnesses, best_within, harmed, tools_of, unfailed
from results_networks import EQUAL, against, by_network, unlearnt
from results_peers import ALONE, PEERS, beside
from wording import counted, exponent, said

from maxca.evaluate.rows import Row, names, read_rows

OTHERS = (EQUAL, "conv=parameters", "window", "gmlp")
PARTS = ("regional", "dilated", "xca")
HARDLY = FOLDING[1]  # percent of the volume
LARGEST = 5  # sizes over which the growth of costs is fitted


def in_short() -> list[str]:
    """Each claim of the paper, and what users ask, in one line of numbers each; nothing where there is no table."""
    lines = ["## In short", "", "What the paper claims of MAXCA, and what came out here:", ""]
    lines += ["- **It is more accurate than other blocks.**", *better()]
    lines += ["- **Its two branches together are better than either, and than attention over all voxels.**", *parts()]
    lines += ["- **It pays at full resolution too.**", *finest()]
    lines += ["- **Its cost is linear.**", *linear()]
    lines += ["", "What its readers and users ask:", ""]
    lines += ["- **Beside other tools.**", *tools()]
    lines += ["- **At equal folding.**", *equal()]
    lines += ["- **Bad images.**", *bad()]
    return [*lines, ""]


def better() -> list[str]:
    """MAXCA against what is not a part of it, on each set, and in which networks."""
    lines = []
    for title, rows in trainings():
        found = against(rows, "maxca")
        told = [f"`{b}` {said(found[b].difference, 'Dice')}" for b in OTHERS if b in found]
        many = ", ".join(counted(len(names(rows, what)), what) for what in ("network", "seed"))
        lines += [f"    - {title}, {many}, against {'; '.join(told)}."]
        ahead = {network: found.get(EQUAL, math.nan) for network, found in by_network(rows, "maxca").items()}
        known = {network: value for network, value in ahead.items() if not math.isnan(value)}
        by = ", ".join(f"{network} {value:+.4f}" for network, value in known.items())
        if known:
            better = sum(value > 0 for value in known.values())
            little = "".join(f"; {network} has hardly learnt anything" for network in unlearnt(rows))
            lines += [f"    - {title}: ahead of `{EQUAL}` in {better} of {len(known)} networks ({by}){little}."]
    return lines or nothing()


def parts() -> list[str]:
    """MAXCA against its parts."""
    lines = []
    for title, rows in trainings():
        found = against(rows, "maxca")
        told = [f"`{b}` {said(found[b].difference, 'Dice')}" for b in PARTS if b in found]
        lines += [f"    - {title}, against {'; '.join(told)}."] if told else []
    return lines or nothing()


def finest() -> list[str]:
    """MAXCA at all levels of a network against MAXCA at some of them."""
    lines = []
    rows = tables.read(tables.RESULTS / "resolution.csv")
    for name in names(rows, "set"):
        mine = [row for row in rows if row["set"] == name]
        told = [f"`{where}` {said(c.difference, 'Dice')}" for where, c in against(mine, "everywhere").items()]
        seeds = counted(len(names(mine, "seed")), "seed")
        lines += [f"    - {name}, with labels, {seeds}, everywhere against {'; '.join(told)}."] if told else []
    return lines or nothing()


def trainings() -> list[tuple[str, list[Row]]]:
    """Set and way of training → rows."""
    found = []
    for script, how in {"block_swap": "without labels", "block_swap_labels": "with labels"}.items():
        rows = tables.read(tables.RESULTS / f"{script}.csv")
        found += [(f"{name}, {how}", [row for row in rows if row["set"] == name]) for name in names(rows, "set")]
    return found


def linear() -> list[str]:
    """How time and memory of each block grow."""
    lines = []
    rows = sorted(tables.read(tables.BENCHMARKS / "block_scaling.csv"), key=lambda row: int(row["side"]))
    for block in ("maxca", "self_attention"):
        mine = [row for row in rows if row["block"] == block][-LARGEST:]
        if len(mine) > 1:
            voxels = [float(row["voxels"]) for row in mine]
            time, memory = (exponent(voxels, [float(row[c]) for row in mine]) for c in ("seconds", "extra_gb"))
            sizes = f"{mine[0]['side']}³ to {mine[-1]['side']}³"
            lines += [f"    - `{block}`: seconds grow as voxels to the {time}, gigabytes to the {memory}, {sizes}."]
    return lines or nothing()


def tools() -> list[str]:
    """Ours against the others, on each set."""
    lines = []
    for name in smoothness.SETS:
        if rows := read_rows(tables.BENCHMARKS / f"{name}.csv"):
            told = [what for other, what in beside(rows).items() if not other.startswith("maxca")]
            lines += [f"    - {PEERS[name][0]}: {'; '.join(told)}."] if told else []
    return lines or nothing()


def equal() -> list[str]:
    """Ours without a model against the others, each at the best smoothness that hardly folds."""
    lines = []
    for name in smoothness.SETS:
        rows = unfailed(at_smoothnesses(name))
        others = [tool for tool in tools_of(rows) if not tool.startswith("maxca")]
        settings = [best_within(rows, tool, HARDLY) for tool in (ALONE, *others)]
        if told := at_equal(rows, settings):
            beyond = [f"`{tool}`" for tool, one in zip(others, settings[1:], strict=True) if one is None]
            folds = f"; at no smoothness: {', '.join(beyond)}" if beyond else ""
            lines += [f"    - {name}, NDV ≤ {HARDLY:g} %: {told}{folds}."]
    return lines or nothing()


def bad() -> list[str]:
    """Where ours is worse than another method."""
    lines = []
    rows = read_rows(tables.RESULTS / "robustness.csv")
    for name in dict.fromkeys(row["set"].split()[0] for row in rows):
        mine = [row for row in rows if row["set"].split()[0] == name]
        first, images = names(mine, "method")[0], len(names(mine, "set"))
        for other, where in harmed(mine).items():
            at = f"at {len(where)} of {images}: {', '.join(where)}" if where else f"at none of {images}"
            lines += [f"    - {name}, kinds of image where `{first}` has less Dice than `{other}`: {at}."]
    return lines or nothing()


def nothing() -> list[str]:
    """What stands where there is no table."""
    return ["    - not measured yet."]
