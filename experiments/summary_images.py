"""Answers on the page of results about registration, one function per question."""

from __future__ import annotations

import contrast
import robustness
import smoothness
import tables
from results_images import (
    FOLDING,
    at_smoothnesses,
    best_within,
    contrast_rows,
    equal_folding,
    errors,
    harmed,
    tools_of,
    unfailed,
)
from results_peers import ALONE, PEERS, WITH_MODEL, compared
from results_verdict import TRUTH, WANTED
from wording import capitalised, counted, grouped, listed, proportion, said, tally

from maxca.evaluate.rows import names, read_rows
from maxca.evaluate.statistics import Comparison, compare
from maxca.evaluate.summary import comparisons

LIMIT = FOLDING[1]  # NDV in percent
TITLES = {"syn": "SyN"}


def tools() -> list[str]:
    """The default against other tools, on each data set."""
    sentences: list[str] = []
    every: list[Comparison] = []
    for name in smoothness.SETS:
        if not (rows := read_rows(tables.BENCHMARKS / f"{name}.csv")):
            continue
        found = {_title(other): told for other, told in compared(rows).items() if not other.startswith("maxca")}
        times = {other: f", {share:.2f} × its time" for other, (_, share) in found.items()}
        differences = {other: c for other, (c, _) in found.items()}
        every += differences.values()
        about = f"{capitalised(PEERS[name][0])} (n = {len(names(rows, 'pair'))})"
        sentences += [f"{about}: {grouped(differences, more=times)}."] if found else []
    about = "With default settings, which include a bundled model where one applies, maxca showed"
    return [f"{about} {tally(every)}.", *sentences] if every else []


def equal() -> list[str]:
    """The optimisation without a model against other tools, each at its best smoothness below a limit of folding."""
    sentences: list[str] = []
    every: list[Comparison] = []
    for name in smoothness.SETS:
        rows = unfailed(at_smoothnesses(name))
        others = [tool for tool in tools_of(rows) if not tool.startswith("maxca")]
        settings = [best_within(rows, tool, LIMIT) for tool in (ALONE, *others)]
        if found := equal_folding(rows, settings):
            every += found.values()
            beyond = [_title(tool) for tool, one in zip(others, settings[1:], strict=True) if one is None]
            folds = f"; no setting of {listed(beyond)} met the limit" if beyond else ""
            told = grouped({_setting(one): c for one, c in found.items()})
            about = f"{capitalised(name)} (n = {len(names(rows, 'pair'))}), {_setting(str(settings[0]))}"
            sentences += [f"{about}: {told}{folds}."]
    about = (
        f"With the smoothness of each tool chosen for the highest mean Dice at an NDV of at most {LIMIT:g} %, and no"
    )
    return [f"{about} model, maxca showed {tally(every)}.", *sentences] if every else []


def models() -> list[str]:
    """The bundled models against no model."""
    sentences: list[str] = []
    for name, (title, _) in PEERS.items():
        rows = read_rows(tables.BENCHMARKS / f"{name}.csv")
        if not rows or name == "rescan":
            continue
        if not name.endswith("-models"):
            found = comparisons(rows, ALONE).get(WITH_MODEL)
            told = f"{said(found.difference)[:-1]}, r = {found.effect:+.2f})" if found and found.effect else ""
            sentences += [f"{title}: {told or 'no registration model is selected by default'}."] if found else []
        for other, (c, _) in compared(rows).items() if name.endswith("-models") else ():
            sentences += [f"{title} (`{other.partition('+')[2]}`): {said(c.difference)[:-1]}, r = {c.effect:+.2f})."]
    about = "Models were compared with the optimisation alone (`--effort balanced`)."
    return [about, *sentences] if sentences else []


def rescan() -> list[str]:
    """Two scans of one subject."""
    rows = read_rows(tables.BENCHMARKS / "rescan.csv")
    found = {_title(other): c for other, (c, _) in compared(rows).items() if "+" not in other} if rows else {}
    pairs = counted(len(names(rows, "pair")), "pair")
    return [f"On {pairs} of scans of the same subject, maxca showed {grouped(found)}."] if found else []


def corrupted_images() -> list[str]:
    """In how many conditions the default is worse than another method."""
    sentences = []
    rows = read_rows(tables.RESULTS / "robustness.csv")
    for name in dict.fromkeys(row["set"].split()[0] for row in rows):
        mine = [row for row in rows if row["set"].split()[0] == name]
        told = []
        for other, where in harmed(mine).items():
            means = [-difference.mean for difference in where.values()]
            size = f" (by {min(means):.4f} to {max(means):.4f} on average)" if means else ""
            told += [f"than `{other}` in {len(where) or 'none'}{size}"]
        conditions = counted(len(names(mine, "set")), "condition")
        if told:
            about = f"{capitalised(name)}: of {conditions}, `{names(mine, 'method')[0]}` showed lower Dice"
            sentences += [f"{about} {listed(told)}."]
    kinds = listed([kind.replace("-", " ") for kind in robustness.CORRUPTIONS])
    about = f"The moving image was corrupted at three severities ({kinds})."
    return [about, *sentences] if sentences else []


def across() -> list[str]:
    """Error between contrasts, by similarity and with the model trained on synthetic images."""
    rows = contrast_rows()
    sentences = []
    for kind in contrast.CONTRASTS:
        mine = [row for row in rows if row["contrast"] == kind]
        if found := errors(mine, ("none", "mi"), ("none", "lncc")):
            about = f"From {kind.replace('W', 'w')} to T1w (n = {len(found[0])}), mutual information showed"
            sentences += [f"{about} {grouped({'local NCC': compare(*found)}, 'TRE', ' mm')}."]
    for similarity, name in {"lncc": "local NCC", "mi": "mutual information"}.items():
        if found := errors(rows, ("synth", similarity), ("none", similarity)):
            about = f"With {name} (n = {len(found[0])}), the model `synth` as a second initialisation showed"
            sentences += [f"{about} {grouped({'none': compare(*found)}, 'TRE', ' mm')}."]
    about = "The target registration error (TRE) was measured after a known synthetic deformation, in one subject."
    return [about, *sentences] if sentences else []


def verdicts() -> list[str]:
    """How often the verdict is as expected in the test half."""
    rows = [row for row in tables.read(tables.RESULTS / "verdict.csv") if row["half"] == "reported"]
    sentences = []
    for truth, wanted in WANTED.items():
        found = [row["verdict"] for row in rows if row["truth"] == truth]
        if found:
            told = f"{found.count(wanted)} ({proportion(found.count(wanted), len(found))})"
            about = f"Of {counted(len(found), f'{TRUTH[truth]} registration')} in the test half"
            sentences += [f"{about}, {told} received the verdict `{wanted}`."]
    return sentences


def _title(tool: str) -> str:
    """The name of a tool."""
    return TITLES.get(tool, tool)


def _setting(name: str) -> str:
    """A tool and its smoothness."""
    tool, _, mm = name.partition("@")
    return f"{'maxca' if tool == ALONE else _title(tool)} at {mm} mm"
