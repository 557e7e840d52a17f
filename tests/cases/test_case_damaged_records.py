"""Models, data, splits, lists and run folders that are damaged: one line that names the file and what is wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from maxca.datasets.brain import read_bids
from maxca.datasets.hippocampus import read_split
from maxca.datasets.prepared import read_prepared
from maxca.errors import MaxcaError
from maxca.io.alone import alone_in
from maxca.io.pairs import Pair, read_pairs, write_pairs
from maxca.models.domain import Domain
from maxca.models.load import Model, load_model, read_domain
from maxca.networks import NetworkConfig
from maxca.training.options import TrainingOptions
from maxca.training.recipes import hippocampus
from maxca.training.run import Run, read_about
from maxca.training.start import train_in

sys.path.append(str(Path(__file__).parents[1] / "training"))
import prepared_data

CONFIG = NetworkConfig("corrxca_tiny", {"levels": 2, "block": {"name": "conv"}})
WRONG = (None, "x", -1, 0, 1.5, [], {}, [[]], True, 10**400, float("nan"), "\u0000\n\x1b", "[" * 2000)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in pairs for place in places(each, (*path, key)))]


def spoiled(data: st.DataObject, plain: Any) -> Any:
    """One value replaced or taken out."""
    plain = json.loads(json.dumps(plain))
    path = data.draw(st.sampled_from([place for place in places(plain) if place]))
    target = plain
    for key in path[:-1]:
        target = target[key]
    if data.draw(st.booleans()):
        target[path[-1]] = data.draw(st.sampled_from(WRONG))
    else:
        del target[path[-1]]
    return plain


def refusal(call: Any, path: Path) -> str:
    """What a call says when it refuses; any other exception fails the test."""
    try:
        call()
    except MaxcaError as error:
        assert path.name in str(error) and len(str(error)) < 500 and str(error).isprintable()
        return str(error)
    return ""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    domain = Domain(((10.0, 20.0),) * 3, "lncc", 0.1)
    Model(CONFIG.build(), CONFIG, (1.0, 1.0, None), domain=domain, mirror=(0,), shape=(32, 32, None)).save(path)
    return path


def described(model: Path, path: Path, about: Any) -> Path:
    save_file(load_file(model), path, metadata={"maxca": about if isinstance(about, str) else json.dumps(about)})
    return path


def about(model: Path) -> dict[str, Any]:
    from maxca.models.checkpoint import read_description

    return read_description(model)


@QUICK
@given(st.data())
def test_a_damaged_description_of_a_model(model: Path, data: st.DataObject) -> None:
    path = described(model, model.with_name("d.safetensors"), spoiled(data, about(model)))
    refusal(lambda: load_model(path), path)
    refusal(lambda: read_domain(path), path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"levels": 10**6},
        {"levels": 60},
        {"encoder_channels": 10**9},
        {"decoder_channels": 50_000},
        {"block": [{"name": "conv"}] * 10**5},
        {"block": {"name": "maxca", "heads": 10**12}},
        {"levels": 1e30},
        {"levels": -5},
    ],
)
def test_a_model_that_would_grow_without_end(model: Path, tmp_path: Path, arguments: dict[str, Any]) -> None:
    held = about(model)
    held["network"]["arguments"] |= arguments
    path = described(model, tmp_path / "huge.safetensors", held)
    begin = time.monotonic()
    assert refusal(lambda: load_model(path), path)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "{", "x" * (2 << 20), '{"format": 1}', "[]", "1e999"])
def test_an_invalid_description(model: Path, tmp_path: Path, text: str) -> None:
    path = described(model, tmp_path / "none.safetensors", text)
    assert refusal(lambda: load_model(path), path)


def test_weights_that_are_not_finite(model: Path, tmp_path: Path) -> None:
    state = load_file(model)
    name = next(iter(state))
    state[name] = state[name] * float("nan")
    save_file(state, tmp_path / "nan.safetensors", metadata={"maxca": json.dumps(about(model))})
    with pytest.raises(MaxcaError, match=rf"nan\.safetensors: .*{name} contains NaN"):
        load_model(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("size", [0, 7, 8, 100])
def test_a_truncated_model_and_a_header_that_claims_more(model: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(model.read_bytes()[:size])
    assert refusal(lambda: load_model(path), path)
    path.write_bytes((2**62).to_bytes(8, "little") + model.read_bytes()[8:])
    assert refusal(lambda: load_model(path), path)


@QUICK
@given(st.data())
def test_a_damaged_manifest(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    row = {"name": "a", "subject": "a", "split": "train", "group": "", "spacing": [1.0, 1.0, 1.0]}
    row["to_voxel"] = [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    path = tmp_path_factory.mktemp("m") / "manifest.json"
    path.write_text(json.dumps(spoiled(data, {"format": 1, "kind": "inter", "scans": [row, row]})))
    refusal(lambda: read_prepared(path.parent), path)


def test_a_prepared_scan_of_something_else(tmp_path: Path) -> None:
    data = read_prepared(prepared_data.make(tmp_path / "d"))
    path = tmp_path / "d" / "scans" / "s0.safetensors"
    for tensors in ({"labels": torch.zeros(2, 2, 2)}, {"image": torch.zeros(2, 2)}, {"image": torch.zeros(2, 2, 2)}):
        save_file(tensors, path)
        assert refusal(lambda: data.load(data.scans[0]), path)
    path.unlink()
    os.mkfifo(path)
    assert "pipe" in refusal(lambda: data.load(data.scans[0]), path)


@QUICK
@given(st.one_of(st.sampled_from(["[" * 10**5, "null", "[]", "\x00"]), st.data()))
def test_a_damaged_split(tmp_path_factory: pytest.TempPathFactory, how: Any) -> None:
    path = tmp_path_factory.mktemp("s") / "split.json"
    (path.parent / "sub-1" / "anat").mkdir(parents=True)
    (path.parent / "sub-1" / "anat" / "sub-1_T1w.nii.gz").touch()
    usual = {"train": ["1"], "val": ["2"], "rescans": [["1", "1b"]]}
    path.write_text(how if isinstance(how, str) else json.dumps(spoiled(how, usual)))
    refusal(lambda: read_split(path.parent), path)
    refusal(lambda: read_bids(path.parent), path)
    if isinstance(how, str):
        assert refusal(lambda: read_split(path.parent), path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", "[" * 10**5),
        ("p.json", '[{"fixed": {"a": 1}, "moving": "b"}]'),
        ("p.json", '[{"fixed": "a\\u0000", "moving": "b"}]'),
        ("p.json", "{}"),
        ("p.csv", "fixed,moving\n" + "x" * 200_000 + ",b\n"),
        ("p.csv", "fixed,moving\n\x00,\x1b\n"),
        ("p.csv", "\xff\xfe"),
        ("p.csv", "fixed;moving\na;b\n"),
        ("p.csv", ""),
    ],
)
def test_a_damaged_list_of_pairs(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert refusal(lambda: read_pairs(tmp_path / name), tmp_path / name)


def test_names_in_a_list_of_pairs_are_no_formulas(tmp_path: Path) -> None:
    for name in ("=1+1.nii", "-x.nii", "@a.nii", "plain.nii"):
        (tmp_path / name).touch()
    pairs = [Pair(tmp_path / "=1+1.nii", tmp_path / "-x.nii"), Pair(tmp_path / "@a.nii", tmp_path / "plain.nii")]
    write_pairs(tmp_path / "p.csv", pairs)
    assert not [
        cell for cell in (tmp_path / "p.csv").read_text().replace("\n", ",").split(",") if cell[:1] in set("=-@+")
    ]
    assert read_pairs(tmp_path / "p.csv") == pairs


@QUICK
@given(st.data())
def test_a_damaged_record_of_a_run(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("r") / "run.json"
    path.write_text(json.dumps(spoiled(data, {"config": hippocampus().as_plain(), "data": "0"})))
    refusal(lambda: read_about(path.parent), path)


@pytest.mark.parametrize("held", [{}, [], {"step": "x", "best": 0.0}, {"step": -1, "best": 0.0}, 3])
def test_a_checkpoint_of_something_else(tmp_path: Path, held: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save(held, path)
    assert refusal(lambda: Run(tmp_path).checkpoint(torch.device("cpu")), path)
    path.write_bytes(path.read_bytes()[:40])
    assert refusal(lambda: Run(tmp_path).checkpoint(torch.device("cpu")), path)
    path.unlink()
    os.mkfifo(path)
    assert "pipe" in refusal(lambda: Run(tmp_path).checkpoint(torch.device("cpu")), path)


@pytest.mark.parametrize("text", ["step,loss\nx,1\n", "loss\n1\n", "step\ninf\n"])
def test_a_damaged_log(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    assert refusal(lambda: Run(tmp_path).trim_log(1), tmp_path / "log.csv")


def test_a_second_train_in_one_folder_is_refused(tmp_path: Path) -> None:
    data = prepared_data.make(tmp_path / "data")
    (tmp_path / "run").mkdir()
    with alone_in(tmp_path / "run", "me"), pytest.raises(MaxcaError, match="another maxca train is running"):
        train_in("hippocampus", data, tmp_path / "run", TrainingOptions(steps=1, device="cpu"))
    assert not list((tmp_path / "run").iterdir())
