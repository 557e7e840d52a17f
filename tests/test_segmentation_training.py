"""The script that trains segmentation networks, on synthetic scans."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "experiments" / "segmentation"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("scans", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    arrays = {"numbers": np.arange(3), "swap": np.array([0, 2, 1], dtype=np.uint8), "tissues": np.array([0, 1, 2])}
    for name in ("train_a", "train_b", "val_c"):
        labels = np.zeros((14, 15, 12), dtype=np.uint8)
        labels[2:6, 3:12, 3:9], labels[8:12, 3:12, 3:9] = 1, 2
        arrays[f"{name}_labels"] = labels
        arrays[f"{name}_image"] = (labels * 90 + random.integers(0, 20, labels.shape)).astype(np.uint8)
    np.savez(tmp_path / "brains.npz", allow_pickle=False, **arrays)
    return tmp_path


@pytest.mark.usefixtures("scripts")
def test_a_training_is_logged_and_goes_on_from_what_it_left(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import train  # type: ignore[import-not-found]

    monkeypatch.setitem(
        train.TASKS, "brains", replace(train.TASKS["brains"], frame=(16,) * 3, crop=(16,) * 3, region=(4,) * 3)
    )
    common = ["--channels", "4", "8", "8", "8", "--batch", "2", "--voxels", "200", "--every", "1", "--device", "cpu"]
    out = packed / "run"
    train.Training(train.parsed(["brains", str(packed), str(out), "--steps", "2", "--variant", "maxca", *common])).run()
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    assert {row["validation"] for row in rows if "validation" in row} == set(train.CONTRASTS)
    more = ["--steps", "1", "--start", str(out / "last.pt"), "--variant", "maxca"]
    again = train.Training(train.parsed(["brains", str(packed), str(out), *more, *common]))
    assert again.step == 2
    again.run()
    assert again.step == 3
