"""A table names the labels of a registration, and says how much each of them guides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import phantoms
import pytest
from test_guidance import START, WHERE, pair

import maxca
from maxca import Result
from maxca.cli.main import main
from maxca.fields import OptionError
from maxca.io.images import write

POINTS = phantoms.nodes(WHERE).reshape(-1, 3)


def table(folder: Path, *weights: float) -> Path:
    rows = [f"{index},quarter {index},{weight}" for index, weight in enumerate(weights, 1)]
    (folder / "table.csv").write_text("\n".join(["index,name,weight", *rows, "9,elsewhere,5", ""]))
    return folder / "table.csv"


def moved(found: Result) -> np.ndarray:
    return np.asarray(found.chain.map_points(POINTS) - POINTS)


def test_equal_weights_are_as_none(tmp_path: Path) -> None:
    expected = maxca.register(**pair(), **START, guide="labels")
    found = maxca.register(**pair(), **START, guide="labels", label_table=table(tmp_path, 0.5, 0.5, 0.5, 0.5))
    np.testing.assert_array_equal(moved(found), moved(expected))
    assert found.record.label_names == {str(n): f"quarter {n}" for n in (1, 2, 3, 4)}
    assert not expected.record.label_names


def test_a_label_of_weight_0_does_not_guide(tmp_path: Path) -> None:
    found = maxca.register(**pair(), **START, guide="labels", label_table=table(tmp_path, 1, 1, 0, 0))
    kept = pair()
    for side in ("fixed", "moving"):
        image = kept[f"{side}_labels"]
        kept[f"{side}_labels"] = type(image)(np.where(image.data > 2, 0, image.data), image.grid)
    expected = maxca.register(**kept, **START, guide="labels")
    np.testing.assert_array_equal(moved(found), moved(expected))
    assert found.record.guidance[0].used == ["1", "2"] and found.record.guidance[0].ignored == ["3", "4"]


def test_a_label_of_more_weight_gains_more(tmp_path: Path) -> None:
    def gains(*weights: float) -> tuple[float, float]:
        found = maxca.register(**pair(), **START, guide="labels", label_table=table(tmp_path, *weights))
        before, after = found.metrics.dice_before, found.metrics.dice_after
        assert before is not None and after is not None and found.metrics.folding.ndv_percent == 0
        gain = {n: (after.by_label[n] or 0) - (before.by_label[n] or 0) for n in after.by_label}
        return gain["1"] + gain["2"], gain["3"] + gain["4"]

    first, second = gains(1, 1, 0.1, 0.1), gains(0.1, 0.1, 1, 1)
    assert first[0] > second[0] + 0.1 and second[1] > first[1] + 0.1


def test_weights_of_0_alone_and_a_table_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="all labels have the weight 0"):
        maxca.register(**pair(), **START, guide="labels", label_table=table(tmp_path, 0, 0, 0, 0))
    images = {name: image for name, image in pair().items() if "labels" not in name}
    with pytest.raises(OptionError, match=r"label_table.*there are none"):
        maxca.register(**images, **START, label_table=table(tmp_path, 1))


def test_the_report_and_the_record_name_the_labels(tmp_path: Path) -> None:
    words = []
    for name, image in pair().items():
        write(image.data, image.grid, tmp_path / f"{name}.nii.gz")
        words += [f"--{name.replace('_', '-')}", str(tmp_path / f"{name}.nii.gz")]
    given = table(tmp_path, 1, 1, 1, 1)
    run = ["register", *words, "--label-table", str(given), "--effort", "fast", "--model", "none", "--threads", "1"]
    assert main([*run, "-o", str(tmp_path / "out"), "--report"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3, quarter 3" in page and "label quarter" in page
    assert "label_table" in (tmp_path / "out" / "result.json").read_text()
