"""A worker loads a model once, and its registrations are those of models that are loaded each time."""

from __future__ import annotations

from pathlib import Path

import phantoms
import pytest
import torch

from maxca.errors import MaxcaError
from maxca.models.kept import KeptModels, fresh
from maxca.models.load import load_model
from maxca.models.zoo import find_model
from maxca.options import RegistrationOptions
from maxca.registration.inputs import SideInputs
from maxca.registration.register import register

CPU = torch.device("cpu")


def test_a_model_is_loaded_once_until_its_file_changes(tmp_path: Path) -> None:
    path, keep = tmp_path / "model.safetensors", KeptModels()
    path.write_bytes(find_model("hippocampus").read_bytes())
    first = keep(load_model, path, CPU)
    assert keep(load_model, path, CPU) is first and fresh(load_model, path, CPU) is not first
    path.write_bytes(find_model("synth").read_bytes())
    second = keep(load_model, path, CPU)
    assert second.source["sha256"] != first.source["sha256"]
    path.unlink()
    with pytest.raises(MaxcaError, match="no such file"):
        keep(load_model, path, CPU)


def test_the_models_that_were_used_last_are_kept(tmp_path: Path) -> None:
    loaded: list[str] = []

    def load(path: Path, device: torch.device) -> str:
        loaded.append(path.name)
        return path.name

    keep = KeptModels(most=2)
    for name in "abc":
        (tmp_path / name).write_text(name)
    for name in "abacba":
        assert keep(load, tmp_path / name, CPU) == name
        assert len(keep) <= 2
    assert loaded == ["a", "b", "c", "b", "a"]


def test_registrations_with_kept_models_are_identical_to_the_bit() -> None:
    where = phantoms.grid((4.0, 4.0, 4.0))
    fixed, moving = phantoms.image(where, phantoms.bend), phantoms.image(where)
    options, keep = RegistrationOptions(model="hippocampus", effort="fast", threads=1), KeptModels()
    usual, first, again = (
        register(SideInputs(fixed), SideInputs(moving), options, keep=how).chain.field_on(where).displacement
        for how in (fresh, keep, keep)
    )
    assert torch.equal(usual, first) and torch.equal(usual, again) and len(keep) == 1
