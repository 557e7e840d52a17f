"""Segmentations pull an image where its intensities do not, and on the nodes as on all samples."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
import torch

from maxca.engine import labels as room
from maxca.engine.deformable import optimise
from maxca.engine.labels import LabelTerm, label_directions, label_vectors
from maxca.engine.lattice import Lattice
from maxca.engine.settings import Level, Settings
from maxca.engine.terms import Guide, ImageTerm
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Grid

SETTINGS = Settings((Level(2, 20), Level(1, 10)), smoothness=6.0)
TURNED = Affine(np.array([[0.98, -0.17, 0.05, 1.0], [0.17, 0.98, 0.0, -2.0], [-0.05, 0.01, 1.02, 0.5], [0, 0, 0, 1.0]]))


def vectors(where: Grid, shift: float = 0.0) -> Volume:
    """Three smooth channels, moved along the first axis."""
    points = phantoms.nodes(where) + np.array([shift, 0, 0])
    waves = np.stack([np.sin(points @ direction / 9) for direction in (np.eye(3) + 0.2)])
    return Volume(torch.from_numpy(waves).float(), where)


@pytest.mark.parametrize("flips", ["", "ik"])
def test_the_force_on_the_nodes_is_about_that_on_all_samples(monkeypatch: pytest.MonkeyPatch, flips: str) -> None:
    fixed, moving = vectors(phantoms.grid((3.0, 3.0, 3.0))), vectors(phantoms.grid((2.0, 3.0, 2.5), flips=flips), 4.0)
    lattice = Lattice(Volume(fixed.values, fixed.grid), Level(1, 1), SETTINGS)
    displacement = torch.randn(1, 3, *lattice.node_grid.shape, generator=torch.Generator().manual_seed(1))
    everywhere = ImageTerm(fixed, moving, TURNED, "mse").at(lattice).force(displacement)
    monkeypatch.setattr(room, "DENSE", 0)
    there = LabelTerm(fixed, moving, TURNED).at(lattice).force(displacement)
    inner = (slice(None), slice(None), *[slice(3, -3)] * 3)
    a, b = everywhere.nodes[inner].flatten(), there.nodes[inner].flatten()
    assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.97
    assert float(there.value) == pytest.approx(float(everywhere.value), rel=0.1)


def test_few_nodes_use_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    lattice = Lattice(Volume(vectors(where).values, where), Level(1, 1), SETTINGS)
    displacement = torch.zeros(1, 3, *lattice.node_grid.shape)
    fixed, moving = vectors(where), vectors(where, 4.0)
    expected = ImageTerm(fixed, moving, TURNED, "mse").at(lattice).force(displacement)
    assert torch.equal(LabelTerm(fixed, moving, TURNED).at(lattice).force(displacement).nodes, expected.nodes)


@pytest.mark.parametrize("dense", [0, 10**9])
def test_labels_move_an_image_without_contrast(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(room, "DENSE", dense)
    where = phantoms.grid((3.0, 3.0, 3.0))
    grey = Volume(torch.from_numpy(phantoms.scene(phantoms.nodes(where)) / 1000).float(), where)
    guide = Guide(LabelTerm(vectors(where), vectors(where, 3.0), Affine.identity()), 0.9)
    field, _ = optimise(grey, grey, Affine.identity(), SETTINGS, terms=[guide])
    moved = field.displacement[0, 6:-6, 6:-6, 6:-6]
    assert float(moved.mean()) < -0.5  # towards the labels, against an image that is aligned already


@pytest.mark.parametrize(("count", "products"), [(2, set()), (9, {0}), (121, {-1, 0, 1}), (241, {-2, -1, 0, 1})])
def test_the_vectors_of_labels_are_far_apart(count: int, products: set[int]) -> None:
    """Products in halves: -2 is an opposite vector."""
    directions = label_directions(count)
    assert directions.shape == (count, min(8, count - 1)) and not directions[0].any()
    found = 2 * directions[1:].double() @ directions[1:].double().T
    torch.testing.assert_close(found, found.round(), atol=1e-6, rtol=0)
    assert set(found.diagonal().round().tolist()) == {2.0}
    assert set(found[~torch.eye(count - 1, dtype=torch.bool)].round().tolist()) == products


def test_a_thousand_labels_have_vectors_of_length_one() -> None:
    directions = label_directions(1001)
    torch.testing.assert_close(directions[1:].norm(dim=1), torch.ones(1000))
    assert len(directions.unique(dim=0)) == 1001


def test_vectors_of_a_label_map_are_those_of_its_labels_and_unknown_voxels_have_no_weight() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    classes = torch.from_numpy(phantoms.regions(phantoms.nodes(where)).astype(np.int32))
    classes[:4] = -1
    found = label_vectors(classes, where, 5, (1, 1, 1))
    assert torch.equal(found.channels.movedim(0, -1), label_directions(5)[classes.clamp(min=0)])
    assert found.mask is not None and torch.equal(found.mask, (classes >= 0).float())
    coarse = label_vectors(classes, where, 5, (2, 2, 2))
    assert coarse.grid.same_as(where.every((2, 2, 2)))
    assert float(coarse.channels.sum(0).max()) <= 1 + 1e-6  # soft at the edges: means of vectors


@pytest.mark.parametrize("dense", [0, 10**9])
def test_unknown_voxels_of_either_image_do_not_pull(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    monkeypatch.setattr(room, "DENSE", dense)
    where = phantoms.grid((3.0, 3.0, 3.0))
    lattice = Lattice(Volume(vectors(where).values, where), Level(1, 1), SETTINGS)
    displacement = torch.zeros(1, 3, *lattice.node_grid.shape)
    nothing = torch.zeros(where.shape)
    for masks in ((nothing, None), (None, nothing)):
        both = (
            Volume(each.channels, where, mask)
            for each, mask in zip((vectors(where), vectors(where, 4.0)), masks, strict=True)
        )
        force = LabelTerm(*both, Affine.identity()).at(lattice).force(displacement)
        assert not force.nodes.any()
