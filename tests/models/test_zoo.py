"""Models by name, by path and from a hub that cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxca.errors import MaxcaError
from maxca.models import zoo
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import load_any

HEADINGS = ("Intended use", "Network", "Data and licence", "Training", "Figures", "Limitations")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder, name in (("weights", "tiny.safetensors"), ("cards", "tiny.md")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("# tiny\n\nKnows nothing.\n")
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(zoo, "CARDS", tmp_path / "cards")
    return tmp_path


def test_a_name_a_path_or_nothing(folder: Path, tmp_path: Path) -> None:
    assert zoo.shipped() == ["tiny"]
    assert zoo.find_model("tiny") == folder / "weights" / "tiny.safetensors"
    mine = tmp_path / "mine.safetensors"
    mine.touch()
    assert zoo.find_model(mine) == mine
    with pytest.raises(MaxcaError, match="tinny: no such file, and no bundled model of that name"):
        zoo.find_model("tinny")


def test_cards(folder: Path) -> None:
    assert "Knows nothing" in zoo.card("tiny")
    with pytest.raises(MaxcaError, match="the bundled models are tiny"):
        zoo.card("../tiny")


@pytest.mark.parametrize("name", zoo.shipped())
def test_a_bundled_model_loads_and_has_a_card(name: str) -> None:
    path = zoo.find_model(name)
    assert path.stat().st_size < 20_000_000
    model = load_any(path)
    assert model.name == name
    assert isinstance(model, Segmenter) or model.config.name == "corrxca"
    card = zoo.card(name)
    assert card.startswith(f"# {name}\n\n")
    assert [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")] == list(HEADINGS)


@pytest.mark.parametrize("address", ["hf://name", "hf://a/b/c", "hf://a/../x.safetensors", "hf://a/b@v/../x"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(MaxcaError, match=r"hf://\S+: (a model is hf://OWNER/NAME|Repo id)"):
        zoo.find_model(address)


def test_without_a_network_the_cache_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MaxcaError, match="not in the cache, and the hub cannot be reached"):
        zoo.find_model("hf://someone/some-model")
    revision = "0" * 40
    snapshot = tmp_path / "models--someone--some-model" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(revision)
    found = zoo.find_model("hf://someone/some-model")
    assert found.read_bytes() == b"weights"
