"""The pages of results are computed from the tables and claim no more than the intervals allow."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from maxca.evaluate.rows import COLUMNS, read_rows

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT / "benchmarks")]

import complexity  # noqa: E402
import results  # noqa: E402
import tables as kept  # noqa: E402
import trials  # noqa: E402
import verdict  # noqa: E402
import versus_peers  # noqa: E402


def test_kept_tables_name_no_place_of_a_machine() -> None:
    files = [*(ROOT / "benchmarks" / "results").glob("*.csv"), *(ROOT / "experiments" / "results").glob("*.csv")]
    assert files
    assert [
        file.name for file in files if re.search(r"(^|[,\"])/", file.read_text(encoding="utf-8"), re.MULTILINE)
    ] == []


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("RESULTS", "BENCHMARKS"):
        monkeypatch.setattr(kept, folder, tmp_path)
    return tmp_path


def write(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def scored(of_set: str, method: str, dice: list[float], **more: Any) -> list[dict[str, Any]]:
    return [
        {"set": of_set, "pair": n, "method": method, "dice": d, "seconds": 2, "threads": 2} | more
        for n, d in enumerate(dice)
    ]


def trained(block: str, dice: list[float]) -> list[dict[str, Any]]:
    row = {"experiment": "block_swap", "set": "hippocampus", "network": "corrxca", "block": block, "steps": 300}
    row |= {"ndv": 0.01, "parameters": 1234, "multiply_adds_per_voxel": 5678, "seconds_per_step": 0.5}
    return [row | {"seed": seed, "dice": d} for seed, d in enumerate(dice)]


def test_the_page_that_is_kept_is_what_the_tables_give() -> None:
    assert results.PAGE.read_text(encoding="utf-8") == results.page(), "make results"
    assert results.APPENDIX.read_text(encoding="utf-8") == results.appendix(), "make results"
    text = results.README.read_text(encoding="utf-8")
    assert results.BEGIN in text and text == results.readme(text), "make results"


def test_the_table_of_the_readme_leaves_out_what_there_is_not(tables: Path) -> None:
    for name in ("brain", "cardiac", "hippocampus"):
        asked = [0.6, 0.8] if name == "brain" else [0.8, 1.0]  # for brains there is no model
        rows = scored(name, "maxca-balanced", [0.6, 0.8]) + scored(name, "maxca-balanced+auto", asked)
        rows += scored(name, "greedy", [0.65]) if name == "cardiac" else []
        write(tables / f"{name}.csv", COLUMNS, [row | {"dice_before": 0.2} for row in rows])
    lines = results.headline().splitlines()
    (tables / "hippocampus.csv").unlink()
    assert "hippocampi" not in results.headline()
    assert "| | brains, inter-subject (2) | | hearts" in lines[0]
    assert "| before registration | 0.200 | | 0.200 | | 0.200 | |" in lines
    assert "| **maxca** (balanced), with the bundled model |  |  | **0.900** | 2.0 | **0.900** | 2.0 |" in lines
    assert "| **maxca** (balanced) | **0.700** | 2.0 | 0.700 | 2.0 | 0.700 | 2.0 |" in lines
    assert "| greedy |  |  | 0.650 | 2.0 |  |  |" in lines


def test_times_of_one_run_replace_those_of_others(tables: Path) -> None:
    rows = scored("brain", "maxca-balanced", [0.6, 0.7, 0.8], dice_before=0.2, seconds=90, peak_mb=7)
    write(tables / "brain.csv", COLUMNS, rows)
    write(tables / "timed.csv", COLUMNS, [rows[1] | {"dice": 0.5, "seconds": 3, "peak_mb": 5, "threads": 1}])
    kept = versus_peers.with_times(*(read_rows(tables / f"{name}.csv") for name in ("brain", "timed")))
    assert [row["dice"] for row in kept] == ["0.6", "0.7", "0.8"]
    assert [(row["seconds"], row["peak_mb"], row["threads"]) for row in kept] == [("",) * 3, ("3", "5", "1"), ("",) * 3]
    write(tables / "brain.csv", COLUMNS, kept)
    assert "| **maxca** (balanced) | **0.700** | 3.0 |" in results.headline()


def test_every_picture_of_the_page_is_drawn(tables: Path) -> None:
    write(tables / "brain.csv", COLUMNS, scored("brain", "maxca", [0.7, 0.72]))
    write(tables / "smoothness-brain.csv", COLUMNS, scored("brain", "greedy@1", [0.7], ndv_percent=0.1))
    spoiled = scored("cardiac none 0", "a", [0.8]) + scored("cardiac blur 2", "a", [0.8])
    write(tables / "robustness.csv", COLUMNS, spoiled)
    rows = [{"network": "corrxca", "block": "maxca", "side": side, "seconds": side} for side in (32, 64)]
    rows = [row | {"extra_gb": 1, "parameters": 99} for row in rows]
    write(tables / "complexity.csv", complexity.COLUMNS, rows)
    for name in ("block_swap", "block_swap_labels", "resolution", "variants"):
        write(tables / f"{name}.csv", trials.COLUMNS, trained("maxca", [0.60, 0.61]) + trained("xca", [0.6, 0.62]))
    results.main(["-o", str(tables / "page.md")])
    shown = set(re.findall(r"\]\((\S+\.png)\)", (tables / "results-appendix.md").read_text(encoding="utf-8")))
    assert shown == {str(path.relative_to(tables)) for path in tables.rglob("*.png")}
    assert len(shown) == 8


def test_without_tables_the_page_names_the_script(tables: Path) -> None:
    page = results.appendix()
    trained = "block_swap.py", "block_swap_labels.py", "resolution.py", "variants.py"
    for script in (
        "versus_peers.py --set brain",
        *trained,
        "complexity.py",
        "training_speed.py",
        "robustness.py",
        "verdict.py",
    ):
        assert f"{script}`.*" in page
    assert "|---" not in page


def test_another_tool_is_better_only_where_its_interval_says_so(tables: Path) -> None:
    ours, base = "maxca-balanced", [0.7, 0.72, 0.71, 0.69, 0.7, 0.73]
    rows = scored("brain", ours, base)
    rows += scored("brain", "greedy", [d + 0.02 + 0.001 * n for n, d in enumerate(base)], seconds=1)
    rows += scored("brain", "syn", [d - 0.05 + 0.001 * n for n, d in enumerate(base)], seconds=8)
    rows += scored("brain", "elastix", [d + 0.01 * (-1) ** n for n, d in enumerate(base)])
    write(tables / "brain.csv", COLUMNS, rows)
    page = results.appendix()
    assert "against `greedy`: lower Dice (-0.0225, 95 % CI " in page
    assert "in 2.00 × the time" in page
    assert "against `syn`: higher Dice (+0.0475, 95 % CI " in page
    assert "against `elastix`: no significant difference in Dice (" in page


def test_blocks_are_compared_over_networks_and_seeds(tables: Path) -> None:
    rows = trained("maxca", [0.60, 0.61, 0.62]) + trained("gmlp", [0.58, 0.60, 0.59]) + trained("xca", [0.6, 0.62])
    rows += [row | {"network": "unet"} for row in trained("maxca", [0.5]) + trained("gmlp", [0.52])]
    write(tables / "block_swap.csv", trials.COLUMNS, rows)
    page = results.appendix()
    assert "*10 of 147 rows so far.*" in page
    assert "| corrxca | maxca | 300 | 0.6100 ± 0.0100 | 3 | 0.0100 | 1,234 | 5,678 |" in page
    assert "- `gmlp` (n = 4): no significant difference in Dice (+0.0100, 95 % CI " in page
    assert "- `xca` (n = 2): no significant difference in Dice (" in page
    assert "| corrxca | +0.0200 | -0.0050 |" in page
    assert "| unet | -0.0200 | – |" in page
    assert '--only "hippocampus corrxca maxca 300 0"' in page


def test_costs_have_the_exponent_of_their_growth(tables: Path) -> None:
    rows = [
        {"network": "corrxca", "block": "maxca", "side": side, "seconds": 1e-6 * side**3.3, "parameters": 99}
        | {"extra_gb": 1e-6 * side**3}
        for side in (32, 64, 128)
    ]
    write(tables / "complexity.csv", complexity.COLUMNS, rows)
    (row,) = (line for line in results.appendix().splitlines() if line.startswith("| corrxca"))
    assert row == "| corrxca | maxca | 0.0927 | 0.913 | 8.99 | 1.10 | 2.10 | 99 |"


def test_corruptions_with_lower_dice_are_named(tables: Path) -> None:
    rows = []
    for what, model in (("none 0", 0.8), ("noise 1", 0.79), ("noise 3", 0.5)):
        rows += scored(f"hippocampus {what}", "maxca+auto", [model, model + 0.01], ndv_percent=0.2)
        rows += scored(f"hippocampus {what}", "maxca", [0.7, 0.71])
    write(tables / "robustness.csv", COLUMNS, rows)
    page = results.appendix()
    assert "| noise | maxca+auto | 0.805 | 0.795 | – | 0.505 | 0.2000 |" in page
    assert "lower Dice than `maxca`: noise 3 (-0.2000, 95 % CI " in page


def test_methods_are_compared_at_equal_folding(tables: Path) -> None:
    rows = []
    for mm, dice, ndv in ((1, 0.8, 0.05), (2, 0.7, 0.005), (4, 0.6, 0.0)):
        rows += scored("brain", f"greedy@{mm}", [dice, dice], ndv_percent=ndv)
        rows += scored("brain", f"syn@{mm}", [dice + 0.02, dice + 0.03], ndv_percent=2 * ndv)
        rows += scored("hippocampus", f"maxca+auto@{mm}", [0.9, 0.8], ndv_percent=0.0)
        rows += scored("hippocampus", f"maxca-balanced@{mm}", [dice + 0.1, dice + 0.2], ndv_percent=0.0)
        rows += scored("hippocampus", f"greedy@{mm}", [dice, dice], ndv_percent=0.0)
        rows += scored("hippocampus", f"elastix@{mm}", [dice, dice], ndv_percent=1.0)
    failed = {"set": "brain", "pair": 2, "method": "syn@2", "error": "it fell over"}
    for name in ("brain", "hippocampus"):
        write(tables / f"smoothness-{name}.csv", COLUMNS, [row for row in [*rows, failed] if row["set"] == name])
    page = results.appendix()
    assert "*13 of 136 rows so far.*" in page
    assert "- `syn@2` failed on pairs that are excluded: 1." in page
    assert "| greedy | 0.6000 at 4 mm | 0.7000 at 2 mm | 0.8000 at 1 mm |" in page
    told = "no significant difference in Dice (-0.0250, 95 % CI -0.0885 to +0.0385)"
    assert f"- NDV ≤ 0.01 %: `greedy@2` against `syn@2`: {told}." in page
    assert "- NDV ≤ 0.001 %, 0.01 %, 0.1 %: `maxca+auto@1` against `maxca-balanced@1`: " in page
    assert "- `maxca+auto`: identical at every smoothness" in page
    told = results.page()
    assert (
        "Hippocampus (n = 2), maxca at 1 mm: no significant difference in Dice from greedy at 1 mm (+0.1500, " in told
    )
    assert "95 % CI -0.4853 to +0.7853, r = +1.00); no setting of elastix met the limit." in told
    assert "--methods greedy --smoothness 1 --threads 2 " in page


def test_corrupted_images_show_where_a_method_is_worse_or_fails(tables: Path) -> None:
    rows = [row for what in ("none 0", "blur 2") for row in scored(f"cardiac {what}", "maxca+auto", [0.8, 0.7, 0.9])]
    rows += scored("cardiac none 0", "greedy", [0.7, 0.6, 0.8]) + scored("cardiac blur 2", "greedy", [0.9, 0.8, 0.95])
    rows += [scored("cardiac blur 3", "greedy", [0])[0] | {"dice": "", "error": "crashed"}]
    write(tables / "robustness.csv", COLUMNS, rows)
    page = results.appendix()
    assert "*13 of 592 rows so far.*" in page
    assert "| blur | maxca+auto | 0.800 | – | 0.800 | – |" in page
    assert "- `greedy` failed on pairs that are excluded: 1 at blur 3." in page
    assert re.search(r"`maxca\+auto` has lower Dice than `greedy`: blur 2 \(-0\.0833, 95 % CI ", page)
    assert 'robustness.py ../shared/data --set cardiac --only "blur 3" -o row.csv' in page


def test_a_variant_of_the_network_is_compared_with_its_own_convolution(tables: Path) -> None:
    rows = trained("maxca", [0.7, 0.71, 0.72])
    rows += trained("wide", [0.75, 0.77, 0.76]) + trained("wide, conv=multiply-adds", [0.70, 0.72, 0.715])
    write(tables / "variants.csv", trials.COLUMNS, rows)
    other = results.appendix().partition("Each network variant compared with itself with `conv=multiply-adds`")[2]
    assert "- `wide` (n = 3): higher Dice (+0.0483, 95 % CI " in other


def test_the_page_answers_each_question_also_where_maxca_is_worse(tables: Path) -> None:
    conv, both = "conv=multiply-adds", [0.60, 0.61, 0.62]
    rows = trained("maxca", both) + trained(conv, [d + 0.01 for d in both]) + trained("regional", [0.53, 0.55, 0.57])
    rows += [row | {"network": "unet"} for row in trained("maxca", both) + trained(conv, [d - 0.02 for d in both])]
    write(tables / "block_swap.csv", trials.COLUMNS, rows)
    levels = trained("everywhere", [0.7, 0.71, 0.72]) + trained("nowhere", [0.68, 0.69, 0.7])
    write(tables / "resolution.csv", trials.COLUMNS, levels)
    costs = [{"block": "maxca", "side": s, "voxels": s**3, "seconds": s**3, "extra_gb": s**6} for s in (16, 32, 64)]
    write(tables / "block_scaling.csv", tuple(costs[0]), costs)
    write(tables / "cardiac.csv", COLUMNS, scored("cardiac", "maxca", [0.7, 0.8]) + scored("x", "greedy", [0.8, 0.9]))
    page = results.page()
    told = "the convolution with as many multiply-adds"
    assert f"Compared with {told}, MAXCA showed no significant difference in 1 of 1 comparison; its mean was" in page
    assert "higher in 1 of 2 combinations of experiment and network." in page
    assert (
        f"(2 networks and 3 seeds), MAXCA showed no significant difference in Dice from {told} (+0.0050, 95 % CI"
        in page
    )
    assert "uninformative" not in page
    assert (
        "(3 seeds), CorrXCA with MAXCA at every level showed higher Dice than convolutions at every level (+0.02"
        in page
    )
    assert "On hippocampi without labels, it showed higher Dice than the regional branch (+0.0600, 95 % CI" in page
    assert "For one MAXCA block, time grows with the number of voxels to the power of 1.00 and memory to" in page
    assert "the power of 2.00 (16³ to 64³ voxels)." in page
    assert "Hearts, end-diastole and end-systole (n = 2): lower Dice than greedy (-0.1000, 95 % CI" in page
    # Equal folding, models, segmentations, test–retest, training, corruption, contrasts, verdict.
    assert page.count("*Not measured yet.*") == 8


def test_a_network_that_has_learnt_nothing_is_named(tables: Path) -> None:
    rows = trained("maxca", [0.60, 0.61]) + trained("conv=multiply-adds", [0.60, 0.60])
    rows += [row | {"network": "unet", "dice": row["dice"] + 0.1} for row in rows]
    write(tables / "block_swap.csv", trials.COLUMNS, rows)
    write(tables / trials.UNMOVED, ("set", "dice"), [{"set": "hippocampus", "dice": 0.605}])
    page = results.appendix()
    assert "uninformative: corrxca on hippocampi without labels." in results.page()
    assert "is 0.6050; no training of `corrxca` improved on it by 0.01, so its rows do not compare blocks." in page


def test_the_verdict_is_counted_and_every_misclassification_is_listed(tables: Path) -> None:
    known = [("right", "aligned")] * 19 + [("right", "check"), ("wrong", "failed"), ("between", "check")]
    common = {"measure": "voxels", "value": "0.5", "register_s": 2, "verdict_s": 1, "threads": 1, "maxca": "1"}
    rows = [
        {"half": "reported", "trial": f"brain/bent/{n}", "truth": truth, "verdict": state, "reasons": "inverse check"}
        | common
        for n, (truth, state) in enumerate(known)
    ]
    write(tables / "verdict.csv", verdict.COLUMNS, rows)
    page = results.appendix()
    assert "| test | 22 | 19 (95%) | 1 | – | 1 (100%) | – | – | 1 |" in page
    assert "| bent | brain | 19 (95%) | 1 | – | 1 (100%) | – | – | 1 |" in page
    assert "- test, brain/bent/19: correct, 0.5 voxels; `check` (inverse check)." in page
    assert page.count("- test, ") == 1
    assert '--half reported --only "brain/bent/21" -o row.csv' in page
