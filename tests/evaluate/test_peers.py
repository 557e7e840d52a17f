"""The other tools, run for real: the map that is read from what they leave is the one by which they warp labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
from sections import Sections

from maxca.evaluate import peers
from maxca.evaluate.methods import PEERS, Job, command, environment, parse
from maxca.evaluate.peers import LABELS, ToolInput, kind_of, update_variance
from maxca.evaluate.processes import run
from maxca.evaluate.scores import maps, score
from maxca.geometry import Affine, Chain
from maxca.io.images import read
from maxca.registration.resampling import resample

MODULES = {"greedy": "picsl_greedy", "syn": "ants", "elastix": "itk"}


def run_elastix(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The step of the command in this process, which imports itk anyway, for 15 s; and with a fourth of the iterations.

    All 2048 take most of a minute.
    """
    for name, value in environment(1).items():
        monkeypatch.setenv(name, value)
    import itk

    defaults = itk.ParameterObject.GetDefaultParameterMap

    def fewer(stage: str) -> Any:
        settings = defaults(stage)
        assert settings["MaximumNumberOfIterations"] == ("256",)
        settings["MaximumNumberOfIterations"] = ("64",)
        return settings

    monkeypatch.setattr(itk.ParameterObject, "GetDefaultParameterMap", staticmethod(fewer))
    peers.main(words[3:])


@pytest.mark.slow
@pytest.mark.parametrize("tool", PEERS)
def test_the_map_of_a_tool_is_the_one_by_which_it_warps(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(MODULES[tool])
    monkeypatch.chdir(tmp_path)
    place = tmp_path / 'one\'s "$(touch run)" folder'  # greedy would run what a shell runs
    place.mkdir()
    files = {name: place / f"{name}.nii.gz" for name in ("fixed", "moving", "fixed_labels", "moving_labels")}
    grids = phantoms.grid((2.0, 2.5, 2.5), flips="i"), phantoms.grid((2.5, 2.0, 2.5), flips="jk")
    for which, where, through in zip(("fixed", "moving"), grids, (phantoms.bend, lambda at: at), strict=True):
        for name, what in ((which, phantoms.scene), (f"{which}_labels", phantoms.regions)):
            nib.save(nib.Nifti1Image(phantoms.image(where, through, what).data, where.affine), files[name])
    job = Job(files["fixed"], files["moving"], place / "out", 1, kind_of(files["fixed"]))
    job.folder.mkdir()
    words = command(parse(tool), job)
    if tool == "elastix":
        run_elastix(words, monkeypatch)
    else:
        assert run(words, environment(1)).error == ""
    scores = score({"tool": tool, "folder": str(job.folder), "pair": {name: str(files[name]) for name in files}})
    assert scores["dice"] > scores["dice_before"] + 0.1
    assert scores["ndv_percent"] < 0.1
    assert scores["deformation_mm"] > 0.5
    theirs = np.rint(read(job.folder / LABELS).data)
    chain, _ = maps(tool, ToolInput(job.fixed, job.moving, job.folder))
    labels = replace(read(job.moving), data=read(files["moving_labels"]).data)
    ours = resample(labels, grids[0], chain, "nearest").data
    assert len(np.unique(theirs)) == 5
    assert (theirs == ours)[(theirs > 0) | (ours > 0)].mean() > 0.99
    assert not (tmp_path / "run").exists()


def test_syn_smooths_by_millimetres() -> None:
    assert update_variance(3.0, (1.5, 1.5, 10.0)) == 4.0


@pytest.mark.slow
def test_greedy_registers_a_slice_in_two_dimensions_and_ends_near_the_truth(tmp_path: Path) -> None:
    pytest.importorskip(MODULES["greedy"])
    pair = Sections(stained=False, seed=1)
    turned = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]])  # of both headers
    for name, volume in (("fixed", pair.fixed), ("moving", pair.moving)):
        nib.save(nib.Nifti1Image(volume.values.numpy(), turned), tmp_path / f"{name}.nii.gz")
    fixed, moving = (tmp_path / f"{name}.nii.gz" for name in ("fixed", "moving"))
    assert kind_of(fixed) == "slice"
    job = Job(fixed, moving, tmp_path / "out", 1, "slice")
    job.folder.mkdir()
    assert run(command(parse("greedy"), job), environment(1)).error == ""
    chain, _ = maps("greedy", ToolInput(fixed, moving, job.folder))
    world = Affine(turned)
    assert pair.error(Chain((world.inverse()[0],)) @ chain @ Chain((world,))) < 0.5 * pair.error()
