"""Results: corrupted images, registration between contrasts, and accuracy at equal folding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from statistics import fmean

import contrast
import robustness
import smoothness
import tables
from wording import again, bounded, not_yet, partly, picture, reversed_sign, said

from maxca.evaluate.rows import Row, names, numbers, read_rows
from maxca.evaluate.statistics import Comparison, Interval, compare
from maxca.evaluate.summary import comparisons

FOLDING = (0.001, 0.01, 0.1)  # NDV in percent, at which methods are compared


def corrupted() -> list[str]:
    """Dice by corruption of the moving image and severity."""
    lines = ["## Corrupted images", ""]
    rows = read_rows(tables.RESULTS / "robustness.csv")
    if not rows:
        return [*lines, not_yet("experiments/robustness.py"), ""]
    lines += [
        "Mean Dice over the same pairs with the moving image corrupted at three severities; its labels are not.",
        "`+auto` uses a model only within its training distribution, which excludes some of the corrupted images; a",
        "model named explicitly is used wherever it increases the similarity; `-refined` continues with optimisation",
        "steps.",
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
            lines += [f"- `{method}` failed on pairs that are excluded: {counted}."] if failed else []
        for other, where in harmed(mine).items():
            told = "; ".join(f"{image} ({bounded(difference)})" for image, difference in where.items())
            lines += [f"- `{methods[0]}` has lower Dice than `{other}`: {told or 'in no condition'}."]
        lines += ["", picture(f"robustness-{name}", f"Dice by severity, {name}"), ""]
        corruption, severity = mine[-1]["set"].split()[1:]
        one = f'--set {name} --only "{corruption} {severity}"'
        lines += [again(f"python experiments/robustness.py ../shared/data {one} -o row.csv"), ""]
    return lines


def harmed(rows: Sequence[Row]) -> dict[str, dict[str, Interval]]:
    """Conditions in which the first method has lower Dice than another: other → condition → difference."""
    first, *others = names(rows, "method")
    dice = {(row["set"], row["pair"], row["method"]): float(row["dice"]) for row in rows if not row["error"]}
    found: dict[str, dict[str, Interval]] = {other: {} for other in others}
    for image, other in product(names(rows, "set"), others):
        pairs = [n for n in names(rows, "pair") if (image, n, first) in dice and (image, n, other) in dice]
        if pairs:
            ours, theirs = ([dice[image, n, method] for n in pairs] for method in (first, other))
            difference = compare(ours, theirs).difference
            if difference.high < 0:
                found[other][image.partition(" ")[2]] = difference
    return found


def contrasts() -> list[str]:
    """Registration between contrasts with a known deformation."""
    lines = ["## Registration between contrasts", ""]
    rows = contrast_rows()
    if not rows:
        return [*lines, not_yet("experiments/contrast.py"), ""]
    cases = len({tuple(row[name] for name in contrast.KEY[:4]) for row in rows})
    planned = math.prod(map(len, (contrast.VISITS, contrast.CONTRASTS, contrast.BENDS, contrast.SEEDS)))
    lines += [partly(cases, planned)] if cases < planned else []
    lines += [
        "T2w or FLAIR registered to T1w of the same subject after a known synthetic deformation: target",
        "registration error (TRE) at points of the head, mean over two visits and",
        f"{len(contrast.SEEDS)} deformations. One subject only. RMS: root mean square of the displacement.",
        "",
        "| moving | RMS | model, similarity | cases | TRE before, mm | TRE, mm | 95th percentile, mm | NDV % | s |",
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
        apart = difference_between([row for row in rows if row["contrast"] == kind], ("none", "mi"), ("none", "lncc"))
        told += [f"- {kind}, all deformations, `mi` against `lncc`, no model: {apart}."] if apart else []
    for similarity in ("lncc", "mi"):
        apart = difference_between(rows, ("synth", similarity), ("none", similarity))
        taken = sum(row["taken"] == "True" for row in rows if row["similarity"] == similarity)
        if apart:
            told += [f"- All cases, `synth` against no model, `{similarity}`: {apart}; accepted in {taken} cases."]
    row = " ".join(rows[0][name] for name in contrast.KEY[:4])
    return [*lines, "", *told, "", again(f'python experiments/contrast.py PATIENT --only "{row}" -o row.csv'), ""]


def contrast_rows() -> list[dict[str, str]]:
    """The rows between contrasts, sorted by case."""
    found = tables.read(tables.RESULTS / "contrast.csv")
    return sorted(found, key=lambda row: [row[name] for name in contrast.KEY[:4]])


def difference_between(rows: Sequence[dict[str, str]], one: tuple[str, str], other: tuple[str, str]) -> str:
    """Difference in error between two settings (model, similarity) on their common cases: mean, interval and range."""
    if (found := errors(rows, one, other)) is None:
        return ""
    first, second = found
    ends = [a - b for a, b in zip(first, second, strict=True)]
    told = said(compare(first, second).difference, "TRE", " mm")
    return f"{told} in {len(first)} cases; range {min(ends):+.2f} to {max(ends):+.2f} mm"


def errors(
    rows: Sequence[dict[str, str]], one: tuple[str, str], other: tuple[str, str]
) -> tuple[list[float], list[float]] | None:
    """Mean errors in mm of two settings (model, similarity) on the cases that have both; None if there are none."""
    missed = {
        way: {
            tuple(row[name] for name in contrast.KEY[:4]): float(row["mean_mm"])
            for row in rows
            if (row["model"], row["similarity"]) == way
        }
        for way in (one, other)
    }
    both = [case for case in missed[one] if case in missed[other]]
    return ([missed[one][case] for case in both], [missed[other][case] for case in both]) if both else None


def smooth() -> list[str]:
    """Dice at equal folding."""
    lines = [
        "## Accuracy at equal folding",
        "",
        "Highest Dice of each method over several smoothness settings, subject to a limit on the",
        "non-diffeomorphic volume (NDV). Smoothness in mm is `--smoothness` of maxca, the Gaussian σ of the update in",
        "greedy and SyN, and the control-point spacing in elastix. The grey column of a figure holds settings with an",
        "NDV below 0.00001 %.",
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
            compared += [
                f"- {', '.join(steady)}: identical at every smoothness, because the model's field is not refined."
            ]
        failed = [row["method"] for row in every if row["error"]]
        compared += [f"- `{m}` failed on pairs that are excluded: {failed.count(m)}." for m in dict.fromkeys(failed)]
        lines += ["", *compared] if compared else []
        lines += ["", picture(f"smoothness-{name}", f"Dice by folding, {name}"), ""]
        tool, _, mm = rows[0]["method"].partition("@")
        one = f"--pair {rows[0]['pair']} --methods {tool} --smoothness {mm} --threads {rows[0]['threads']}"
        lines += [again(f"maxca evaluate --pairs ../shared/data/{smoothness.SETS[name][0]} {one} -o row.csv"), ""]
    return lines


def at_smoothnesses(name: str) -> list[Row]:
    """The rows of a data set at several smoothness settings."""
    return read_rows(tables.RESULTS / f"smoothness-{name}.csv")


def unfailed(rows: Sequence[Row]) -> list[Row]:
    """The rows of successful registrations."""
    return [row for row in rows if not row["error"]]


def tools_of(rows: Sequence[Row]) -> list[str]:
    """Names of the methods without their smoothness."""
    return list(dict.fromkeys(method.partition("@")[0] for method in names(rows, "method")))


def best_within(rows: Sequence[Row], tool: str, limit: float) -> str | None:
    """The setting of a tool with the highest Dice among those with a mean NDV of at most ``limit`` percent."""
    settings = [m for m in names(rows, "method") if m.partition("@")[0] == tool and of(rows, m, "dice")]
    allowed = [m for m in settings if fmean(of(rows, m, "ndv_percent")) <= limit]
    return max(allowed, key=lambda m: fmean(of(rows, m, "dice")), default=None)


def ignores_smoothness(rows: Sequence[Row], tool: str) -> bool:
    """Whether a tool with a model has the same Dice at every smoothness, pair by pair."""
    mine = [row for row in rows if row["method"].partition("@")[0] == tool]
    per_pair = {pair: {row["dice"] for row in mine if row["pair"] == pair} for pair in names(mine, "pair")}
    return "+" in tool and len(names(mine, "method")) > 1 and all(len(scores) == 1 for scores in per_pair.values())


def at_equal(rows: Sequence[Row], settings: Sequence[str | None]) -> str:
    """The first of several settings, all below a limit of folding, compared with each of the others."""
    told = [f"`{other}`: {said(c.difference)}" for other, c in equal_folding(rows, settings).items()]
    return f"`{settings[0]}` against {'; '.join(told)}" if told else ""


def equal_folding(rows: Sequence[Row], settings: Sequence[str | None]) -> dict[str, Comparison]:
    """Comparisons in Dice, the first setting minus each of the others that exist."""
    first, *others = settings
    if first is None:
        return {}
    found = comparisons(rows, first)
    return {other: reversed_sign(found[other]) for other in others if other in found}


def of(rows: Sequence[Row], method: str, column: str) -> list[float]:
    """The values of a method in a column."""
    return numbers([row for row in rows if row["method"] == method], column)
