"""The figures of the results, from the tables of the experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import block_swap
import complexity
import matplotlib
import robustness

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from maxca.evaluate.rows import Row, names

DICE = "Dice, mean over labels and pairs"


def trainings(rows: Sequence[Row], name: str, path: Path) -> None:
    """Dice of each training of a data set, one mark per seed."""
    mine = [row for row in rows if row["set"] == name]
    networks, blocks = names(mine, "network"), names(mine, "block")
    dice = {(n, b): [float(r["dice"]) for r in mine if (r["network"], r["block"]) == (n, b)] for n, b in _kinds(mine)}
    height = 4 if len(networks) > 1 else 1 + 0.3 * len(blocks)
    figure, axes = pyplot.subplots(figsize=(max(6, 1.8 * len(networks)), height), layout="constrained")
    if len(networks) > 1:
        _by_network(axes, dice, networks, blocks)
    else:
        _by_block(axes, [dice[networks[0], block] for block in blocks], blocks)
    title = name if len(networks) > 1 else f"{name}, {networks[0]}"
    axes.set_title(f"{title}: each mark is a training", fontsize=10)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _by_network(
    axes: Axes, dice: Mapping[tuple[str, str], Sequence[float]], networks: Sequence[str], blocks: Sequence[str]
) -> None:
    """One column per network, one colour per block."""
    for number, block in enumerate(blocks):
        offset = 0.8 * ((number + 0.5) / len(blocks) - 0.5)
        for place, network in enumerate(networks):
            found = dice.get((network, block), [])
            axes.plot([place + offset] * len(found), found, "o", color=f"C{number}", markersize=4, alpha=0.7)
        axes.plot([], [], "o", color=f"C{number}", label=block)
    axes.set(xticks=range(len(networks)), xticklabels=networks, ylabel=DICE)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _by_block(axes: Axes, dice: Sequence[Sequence[float]], blocks: Sequence[str]) -> None:
    """One line per block, with its mean."""
    for line, found in enumerate(dice):
        axes.plot(found, [line] * len(found), "o", color="C0", markersize=4, alpha=0.7)
        axes.plot(fmean(found), line, "|", color="black", markersize=12)
    axes.set(yticks=range(len(blocks)), yticklabels=blocks, xlabel=f"{DICE}; | is their mean")
    axes.set_ylim(len(blocks) - 0.4, -0.6)
    axes.grid(alpha=0.3)


def _kinds(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Unique pairs of network and block."""
    return list(dict.fromkeys((row["network"], row["block"]) for row in rows))


def costs(rows: Sequence[Row], reached: Sequence[Row], path: Path) -> None:
    """Seconds and memory against voxels, and Dice against seconds."""
    figure, panels = pyplot.subplots(1, 3, figsize=(14, 5), layout="constrained")
    kinds = _kinds(rows)
    markers = dict(zip(block_swap.BLOCKS, "osv^DPX*", strict=True))
    colours = {network: f"C{number}" for number, network in enumerate(block_swap.NETWORKS)}
    for panel, (column, label) in zip(
        panels, {"seconds": "seconds per pass", "extra_gb": "extra memory, GB"}.items(), strict=False
    ):
        for network, block in kinds:
            mine = [row for row in rows if (row["network"], row["block"]) == (network, block)]
            panel.loglog(
                [int(row["side"]) ** 3 for row in mine],
                [float(row[column]) for row in mine],
                marker=markers[block],
                color=colours[network],
                label=f"{network}, {block}",
            )
        panel.set(xlabel="voxels", ylabel=label)
        panel.grid(alpha=0.3)
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    for row in rows:
        dice = [float(r["dice"]) for r in reached if (r["network"], r["block"]) == (row["network"], row["block"])]
        if int(row["side"]) == complexity.PARETO_SIDE and dice:
            middle = fmean(dice)
            panels[2].errorbar(
                float(row["seconds"]),
                middle,
                yerr=[[middle - min(dice)], [max(dice) - middle]],
                marker=markers[row["block"]],
                color=colours[row["network"]],
                capsize=2,
            )
    panels[2].set(
        xlabel=f"seconds per pass at {complexity.PARETO_SIDE}³",
        ylabel="Dice, hippocampus, with labels: mean, range",
        xscale="log",
    )
    panels[2].xaxis.set_minor_formatter(NullFormatter())
    panels[2].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[2].xaxis.set_major_formatter("{x:g}")
    panels[2].grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def corruptions(rows: Sequence[Row], name: str, path: Path) -> None:
    """Mean Dice by severity, one panel per corruption, one line per method."""
    dice: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        of_set, corruption, severity = row["set"].split()
        if of_set == name and not row["error"]:
            dice.setdefault((row["method"], corruption, severity), []).append(float(row["dice"]))
    methods = list(dict.fromkeys(key[0] for key in dice))
    shown = [corruption for corruption in robustness.CORRUPTIONS if any(key[1] == corruption for key in dice)]
    lines = -(-len(shown) // 4)
    figure, panels = pyplot.subplots(
        lines, 4, figsize=(11, 2.6 * lines), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for panel, corruption in zip(panels.flat, shown, strict=False):
        for number, method in enumerate(methods):
            known = [("none", "0"), *((corruption, str(severity)) for severity in robustness.SEVERITIES)]
            points = [(int(s), sum(d) / len(d)) for c, s in known if (d := dice.get((method, c, s)))]
            at, height = [point[0] for point in points], [point[1] for point in points]
            panel.plot(at, height, "o-", color=f"C{number}", label=method, markersize=4)
        panel.set_title(corruption, fontsize=10)
        panel.set_xticks([0, *robustness.SEVERITIES])
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(shown) :]:
        panel.axis("off")
    for panel in panels[:, 0]:
        panel.set_ylabel("Dice")
    for panel in panels[-1]:
        panel.set_xlabel("severity")
    panels[0, 0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
