"""The benchmark's own parts: pair lists, resuming, measuring a process, the table. No peer is run."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import peers
import summary
import versus_peers

LIST = "fixed,moving,fixed_labels,moving_labels,group\na,b,la,lb,inter\nc,d,lc,ld,rescan\ne,f,le,lf,inter\n"


def row(method: str, pair: int, dice: float | str, error: str = "") -> dict[str, object]:
    number = dice if error else 0.5
    return {
        "set": "brain", "pair": pair, "fixed": "a", "moving": "b", "method": method, "dice": dice, "dice_before": 0.25,
        "hd95_mm": number, "ndv_percent": number, "nonpositive_percent": number, "sdlogj": number,
        "seconds": 10.0 * (pair + 1), "peak_mb": 900.0, "threads": 2, "error": error,
    }  # fmt: skip


def test_a_group_keeps_the_numbers_of_the_whole_list(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(LIST)
    assert [pair.number for pair in versus_peers.read_pairs(tmp_path / "pairs.csv")] == [0, 1, 2]
    pairs = versus_peers.read_pairs(tmp_path / "pairs.csv", "inter")
    assert [(pair.number, pair.fixed, pair.moving_labels) for pair in pairs] == [(0, "a", "lb"), (2, "e", "lf")]


def test_a_list_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("fixed,moving\na,b\n")
    with pytest.raises(SystemExit, match="needs the columns fixed, fixed_labels"):
        versus_peers.read_pairs(tmp_path / "pairs.csv")


def test_an_unknown_method_is_refused() -> None:
    assert versus_peers.method_names("maxca-fast,greedy") == ["maxca-fast", "greedy"]
    assert versus_peers.method_names("maxca-fast-auto,maxca-balanced-cardiac-cine")[1] == "maxca-balanced-cardiac-cine"
    with pytest.raises(argparse.ArgumentTypeError, match="unknown method demons; choose of maxca-fast"):
        versus_peers.method_names("greedy,demons")


def test_rows_that_are_there_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.csv").write_text(LIST)
    asked: list[tuple[str, int]] = []

    def measure(method: str, pair: versus_peers.Listed, options: argparse.Namespace) -> dict[str, object]:
        asked.append((method, pair.number))
        return {**row(method, pair.number, 0.5), "fixed": pair.fixed, "moving": pair.moving}

    monkeypatch.setattr(versus_peers, "measure", measure)
    command = ["--pairs", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "out.csv"), "--methods", "greedy,syn"]
    versus_peers.main([*command, "--limit", "1"])
    assert asked == [("greedy", 0), ("syn", 0)]
    versus_peers.main([*command, "--group", "inter"])
    assert asked[2:] == [("greedy", 2), ("syn", 2)]
    assert len(versus_peers.read_rows(tmp_path / "out.csv")) == 4
    assert "| greedy | 2 |" in (tmp_path / "out.md").read_text(encoding="utf-8")


def test_the_table_has_mean_and_deviation_and_counts_failures(tmp_path: Path) -> None:
    for each in (row("greedy", 0, 0.5), row("greedy", 1, 0.7), row("syn", 0, 0.6), row("syn", 1, "", "it fell over")):
        versus_peers.append(tmp_path / "out.csv", each)
    rows = versus_peers.read_rows(tmp_path / "out.csv")
    table = summary.markdown(rows)
    assert "**brain**: 2 pairs, Dice before 0.2500, 2 threads" in table
    assert "| greedy | 2 | 0.6000 ± 0.1414 |" in table
    assert "15.0 ± 7.1 | 900 ± 0 | 0 |" in table
    assert "| syn | 1 | 0.6000 |" in table
    assert table.rstrip().endswith("| 1 |")


def test_the_figure_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    versus_peers.append(tmp_path / "out.csv", row("greedy", 0, 0.5))
    summary.figure(versus_peers.read_rows(tmp_path / "out.csv"), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_process_is_measured_by_itself() -> None:
    usage, output = versus_peers.run([sys.executable, "-c", "x = bytearray(150 << 20); print(len(x))"], threads=1)
    assert output == "157286400\n"
    assert usage.error == ""
    assert usage.peak_mb > 150
    assert 0 < usage.seconds < 30


def test_a_failed_process_gives_its_last_line() -> None:
    usage, _ = versus_peers.run([sys.executable, "-c", "raise ValueError('no such image')"], threads=1)
    assert usage.error == "ValueError: no such image"
    assert versus_peers.run([sys.executable, "-c", "raise SystemExit(3)"], threads=1)[0].error == "exit status 3"


def test_ours_is_timed_through_the_command_line_and_all_get_the_same_threads() -> None:
    pair = peers.Pair("brain", Path("f.nii.gz"), Path("m.nii.gz"), Path("out"))
    command = peers.register_command("maxca-balanced", pair, 2)
    files, options = ["-f", "f.nii.gz", "-m", "m.nii.gz", "-o", "out"], ["--effort", "balanced", "--model", "none"]
    assert command[1:] == ["-m", "maxca", "register", *files, *options, "--threads", "2", "-q", "--overwrite"]
    assert "cardiac-cine" in peers.register_command("maxca-balanced-cardiac-cine", pair, 2)
    assert peers.register_command("greedy", pair, 2)[2:] == ["register", "greedy", *map(str, pair), "2"]
    limits = peers.environment(2)
    assert limits["OMP_NUM_THREADS"] == limits["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "2"


def test_a_tool_that_refuses_gets_its_next_settings() -> None:
    tried = []

    def refuse() -> None:
        tried.append("pyramid")
        raise RuntimeError("image too small")

    peers.first_that_runs([refuse, lambda: tried.append("one level")])
    assert tried == ["pyramid", "one level"]
    with pytest.raises(RuntimeError, match="too small"):
        peers.first_that_runs([refuse])
