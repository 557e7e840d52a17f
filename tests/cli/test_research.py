"""The commands of those who train and compare: what they print, and how they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run

from maxca.models import zoo
from maxca.models.domain import Domain
from maxca.models.load import Model, load_model
from maxca.networks import NetworkConfig

CONFIG = NetworkConfig("corrxca_tiny", {})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    Model(CONFIG.build(), CONFIG, (1.0, 1.0, 1.0), domain=Domain(((1, 2),) * 3, "lncc", 0.1)).save(path)
    return path


def test_every_bundled_model_has_a_card() -> None:
    listed = run("models", "list")
    assert listed.code == 0
    for name in zoo.shipped():
        assert name in listed.out
        shown = run("models", "show", name)
        assert shown.code == 0
        assert zoo.card(name).strip() in shown.out  # what a card must hold: tests/models/test_zoo.py
    assert sorted(path.stem for path in zoo.CARDS.glob("*.md")) == zoo.shipped()


def test_a_packed_model_is_half_the_size_and_keeps_the_rest(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    assert run("models", "pack", model, "-o", out, "--refine", "3", "--mirror", "zx").code == 0
    assert out.stat().st_size < 0.6 * model.stat().st_size
    packed = load_model(out)
    assert packed.mirror == (0, 2)
    assert (packed.refine, packed.spacing, packed.domain) == (3, (1.0, 1.0, 1.0), load_model(model).domain)
    assert run("models", "pack", model, "-o", out, "--by-name", "--overwrite").code == 0
    assert load_model(out).domain is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("models", "show", "nobody"), "unknown model nobody"),
        (("models", "pack", "none.safetensors", "-o", "out.safetensors"), "none.safetensors: no such model file"),
        (("models", "pack", "none.safetensors", "-o", "out.pt"), "this output ends in one of .safetensors"),
        (("train", "nothing", "-o", "run"), "unknown recipe 'nothing'; choose one of hippocampus"),
        (("train", "hippocampus", "-o", "run"), "needs --data FOLDER, an output folder of maxca prepare"),
        (("train", "hippocampus", "--data", "nowhere", "-o", "run"), "nowhere: no manifest.json"),
        (
            ("train", "synth", "--init", "nobody", "-o", "run"),
            "nobody: no such file, and no bundled model",
        ),
        (("train", "hippocampus", "--resume", "-o", "nowhere"), "nowhere/run.json: no such file"),
        (("prepare", "nothing", "here", "-o", "there"), "nothing is not a list (.csv), nor one of hippocampus"),
        (("prepare", "hippocampus", "nowhere", "-o", "there"), "nowhere: no such folder"),
        (("evaluate", "--pairs", "none.csv", "-o", "out.csv"), "none.csv: no such list of pairs"),
        (("evaluate", "--pairs", "p.csv", "-o", "out.csv", "--methods", "demons"), "unknown method demons"),
        (
            ("evaluate", "--pairs", "p.csv", "-o", "o.csv", "--smoothness", "a"),
            "--smoothness: a: give millimetres with commas",
        ),
        (
            ("evaluate", "--pairs", "p.csv", "-o", "o.csv", "--figure", "a.gif"),
            "a.gif: a figure must end in .png or .svg",
        ),
        (
            ("evaluate", "--pairs", "p.csv", "-o", "o.csv", "--against", "syn"),
            "--against syn: is neither one of the methods",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*words)
    assert outcome.code in (1, 2)
    assert message in " ".join(outcome.err.split())
    assert outcome.code == 2 or len(outcome.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
