"""Sections of the page of results about images: spoiled ones, other contrasts, and folding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from statistics import fmean

import contrast
import robustness
import smoothness
import tables
from wording import again, bounded, not_yet, opposite, partly, picture, said

from maxca.evaluate.rows import Row, names, numbers, read_rows
from maxca.evaluate.statistics import compare
from maxca.evaluate.summary import comparisons

FOLDING = (0.001, 0.01, 0.1)  # percent of the volume, at which smoothnesses are compared


def spoiled() -> list[str]:
    """Images that are worse than one would wish."""
    lines = ["## Bad images", ""]
    rows = read_rows(tables.RESULTS / "robustness.csv")
    if not rows:
        return [*lines, not_yet("experiments/robustness.py"), ""]
    lines += [
        "The moving image is spoiled, in three severities; its labels are not. Mean Dice over the same pairs. `+auto`",
        "takes a model only for images that look like those it was trained on, so not for some that are spoiled; asked",
        "for by its name it is taken wherever the images become more alike; `-refined` optimises on from there.",
        "",
    ]
    for name in dict.fromkeys(row["set"].split()[0] for row in rows):
        mine = [row for row in rows if row["set"].split()[0] == name]
        pairs, methods = len(names(mine, "pair")), names(mine, "method")
        table = {(*row["set"].split()[1:], row["method"], row["pair"]): row for row in mine if not row["error"]}
        lines += [f"### {name[0].upper()}{name[1:]}, {pairs} pairs", ""]
        images = 1 + len(robustness.CORRUPTIONS) * len(robustness.SEVERITIES)
        planned = images * robustness.SETS[name][1] * len(methods)
        lines += [partly(len(mine), planned)] if len(mine) < planned else []
        lines += ["| corruption | method | none | 1 | 2 | 3 | NDV % at 3 |", "|---|---|---:|---:|---:|---:|---:|"]
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
        lines += [""]
        for method in methods:
            failed = [row["set"].partition(" ")[2] for row in mine if row["method"] == method and row["error"]]
            counted = ", ".join(f"{failed.count(image)} at {image}" for image in dict.fromkeys(failed))
            lines += [f"- `{method}` failed on pairs, which are left out: {counted}."] if failed else []
        for other, where in harmed(mine).items():
            lines += [f"- `{methods[0]}` has less Dice than `{other}`: {', '.join(where) or 'nowhere'}."]
        lines += ["", picture(f"robustness-{name}", f"Dice by severity, {name}"), ""]
        corruption, severity = mine[-1]["set"].split()[1:]
        one = f'--set {name} --only "{corruption} {severity}"'
        lines += [again(f"python experiments/robustness.py ../shared/data {one} -o row.csv"), ""]
    return lines


def harmed(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Where the first method has less Dice than another: its name → images, and the difference."""
    first, *others = names(rows, "method")
    dice = {(row["set"], row["pair"], row["method"]): float(row["dice"]) for row in rows if not row["error"]}
    found: dict[str, list[str]] = {other: [] for other in others}
    for image, other in product(names(rows, "set"), others):
        pairs = [n for n in names(rows, "pair") if (image, n, first) in dice and (image, n, other) in dice]
        if pairs:
            ours, theirs = ([dice[image, n, method] for n in pairs] for method in (first, other))
            difference = compare(ours, theirs).difference
            if difference.high < 0:
                found[other] += [f"{image.partition(' ')[2]} ({bounded(difference)})"]
    return found


def contrasts() -> list[str]:
    """From one contrast to another, against a known answer."""
    lines = ["## Between contrasts", ""]
    rows = sorted(
        tables.read(tables.RESULTS / "contrast.csv"), key=lambda row: [row[name] for name in contrast.KEY[:4]]
    )
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
        "Millimetres are each method's own: of ours `--smoothness`, of greedy and SyN the sigma of the update, of",
        "elastix the distance of control points. In the grey column of a figure nothing folds, or less than 0.00001 %.",
        "",
    ]
    for name in smoothness.SETS:
        every = at_smoothnesses(name)
        rows = unfailed(every)
        lines += [f"### {name[0].upper()}{name[1:]}", ""]
        if not rows:
            lines += [not_yet(f"experiments/smoothness.py --set {name}"), ""]
            continue
        planned = smoothness.planned(name)
        lines += [partly(len(every), planned)] if len(every) < planned else []
        lines += ["| method | " + " | ".join(f"NDV ≤ {limit:g} %" for limit in FOLDING) + " |"]
        lines += ["|---|" + "---:|" * len(FOLDING)]
        tools = tools_of(rows)
        best = {tool: [best_within(rows, tool, limit) for limit in FOLDING] for tool in tools}
        for tool, settings in best.items():
            cells = [
                "–" if one is None else f"{fmean(of(rows, one, 'dice')):.4f} at {one.partition('@')[2]} mm"
                for one in settings
            ]
            lines += [f"| {tool} | {' | '.join(cells)} |"]
        limits: dict[str, list[str]] = {}
        for number, limit in enumerate(FOLDING):
            limits.setdefault(at_equal(rows, [best[tool][number] for tool in tools]), []).append(f"{limit:g} %")
        compared = [f"- NDV ≤ {', '.join(those)}: {told}." for told, those in limits.items() if told]
        steady = [f"`{tool}`" for tool in tools if ignores_smoothness(rows, tool)]
        if steady:
            compared += [f"- {', '.join(steady)}: the same at each smoothness; the model's field is not refined."]
        failed = [row["method"] for row in every if row["error"]]
        compared += [f"- `{m}` failed on pairs, which are left out: {failed.count(m)}." for m in dict.fromkeys(failed)]
        lines += ["", *compared] if compared else []
        lines += ["", picture(f"smoothness-{name}", f"Dice by folding, {name}"), ""]
        tool, _, mm = rows[0]["method"].partition("@")
        one = f"--pair {rows[0]['pair']} --methods {tool} --smoothness {mm} --threads {rows[0]['threads']}"
        lines += [again(f"maxca evaluate --pairs ../shared/data/{smoothness.SETS[name][0]} {one} -o row.csv"), ""]
    return lines


def at_smoothnesses(name: str) -> list[Row]:
    """The rows of a set at several smoothnesses."""
    return read_rows(tables.RESULTS / f"smoothness-{name}.csv")


def unfailed(rows: Sequence[Row]) -> list[Row]:
    """Those of registrations that came to an end."""
    return [row for row in rows if not row["error"]]


def tools_of(rows: Sequence[Row]) -> list[str]:
    """Methods, whatever their smoothness."""
    return list(dict.fromkeys(method.partition("@")[0] for method in names(rows, "method")))


def best_within(rows: Sequence[Row], tool: str, limit: float) -> str | None:
    """The setting of a tool with the most Dice whose folding stays below a limit."""
    settings = [m for m in names(rows, "method") if m.partition("@")[0] == tool and of(rows, m, "dice")]
    allowed = [m for m in settings if fmean(of(rows, m, "ndv_percent")) <= limit]
    return max(allowed, key=lambda m: fmean(of(rows, m, "dice")), default=None)


def ignores_smoothness(rows: Sequence[Row], tool: str) -> bool:
    """Whether a tool with a model scores every pair the same at all of several smoothnesses."""
    mine = [row for row in rows if row["method"].partition("@")[0] == tool]
    per_pair = {pair: {row["dice"] for row in mine if row["pair"] == pair} for pair in names(mine, "pair")}
    return "+" in tool and len(names(mine, "method")) > 1 and all(len(scores) == 1 for scores in per_pair.values())


def at_equal(rows: Sequence[Row], settings: Sequence[str | None]) -> str:
    """The first of some settings, which all fold less than a limit, against each of the others."""
    first, *others = settings
    if first is None:
        return ""
    found = comparisons(rows, first)
    told = [f"`{other}`: {said(opposite(found[other].difference), 'Dice')}" for other in others if other in found]
    return f"`{first}` against {'; '.join(told)}" if told else ""


def of(rows: Sequence[Row], method: str, column: str) -> list[float]:
    """The numbers of a method."""
    return numbers([row for row in rows if row["method"] == method], column)
