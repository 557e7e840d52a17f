"""The optimiser adds up terms, and knows nothing of what they are."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
import torch
from torch import Tensor

from maxca.engine.channels import Channel
from maxca.engine.deformable import optimise
from maxca.engine.lattice import Lattice
from maxca.engine.settings import Level, Settings
from maxca.engine.terms import ChannelTerm, Force, Guide, ImageTerm
from maxca.engine.volume import Volume
from maxca.geometry import Affine, Chain, Grid

STILL = Affine.identity()
LEVELS = (Level(2, 20), Level(1, 10))


def volumes(where: Grid) -> tuple[Volume, Volume]:
    """An image, and the same two millimetres to the right."""
    points = phantoms.nodes(where)
    first, second = (phantoms.scene(points + shift) / 1000 for shift in (np.zeros(3), np.array([2.0, 0, 0])))
    return Volume(torch.from_numpy(first).float(), where), Volume(torch.from_numpy(second).float(), where)


class Upward:
    """A term from outside the package: every node should be 3 mm along the last axis."""

    def at(self, lattice: Lattice) -> Upward:
        return self

    def force(self, displacement: Tensor) -> Force:
        missing = torch.zeros_like(displacement)
        missing[:, 2] = 3.0 - displacement[:, 2]
        return Force(-missing.square().mean(), missing)


def test_a_term_from_outside_pulls_next_to_the_images() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    empty = Volume(torch.zeros(where.shape), where)
    settings = Settings(LEVELS, smoothness=6.0)
    field, records = optimise(empty, empty, STILL, settings, terms=[Upward()])
    inner = field.displacement[:, 8:-8, 8:-8, 8:-8]
    assert float(inner[2].mean()) == pytest.approx(3.0, abs=0.2)
    assert float(inner[:2].abs().max()) < 1e-5
    assert records[0].similarity[-1] > records[0].similarity[0]  # the value of the term is part of the record


def test_equal_channels_are_as_one() -> None:
    fixed, moving = volumes(phantoms.grid((3.0, 3.0, 3.0)))
    settings = Settings(LEVELS, smoothness=6.0)
    one, _ = optimise(fixed, moving, STILL, settings)
    pair = (Volume(torch.cat([v.channels, v.channels]), v.grid) for v in (fixed, moving))
    two, _ = optimise(*pair, STILL, settings)
    torch.testing.assert_close(one.displacement, two.displacement, atol=2e-3, rtol=0)


def test_a_second_channel_aligns_what_the_first_does_not_show() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    fixed, moving = volumes(where)
    blank = torch.zeros_like(fixed.channels)
    pair = [Volume(torch.cat([blank, v.channels]), where) for v in (fixed, moving)]
    settings = Settings(LEVELS, smoothness=6.0)
    both, _ = optimise(*pair, STILL, settings)
    alone, _ = optimise(fixed, moving, STILL, settings)
    assert float(alone.displacement.abs().max()) > 1
    torch.testing.assert_close(both.displacement, alone.displacement, atol=2e-2, rtol=0)


def test_weights_are_relative_and_channels_come_in_pairs() -> None:
    fixed, moving = volumes(phantoms.grid((4.0, 4.0, 4.0)))
    two = Volume(torch.cat([fixed.channels, fixed.channels]), fixed.grid)
    assert ImageTerm(two, two, STILL, weights=[3, 1]).weights == [0.75, 0.25]
    with pytest.raises(ValueError, match="2 fixed and 1 moving channels"):
        ImageTerm(two, moving, STILL)
    with pytest.raises(ValueError, match="received"):
        Volume(torch.zeros(2, 3, 4, 5), Grid((3, 4, 6), np.eye(4)))


def forces(channels: list[Channel], where: Grid) -> list[Tensor]:
    """Of each channel alone, and of all, at the first step and after one with a motion."""
    settings = Settings(LEVELS, smoothness=6.0)
    lattice = Lattice(channels[0].fixed, LEVELS[1], settings)
    terms = [ChannelTerm(each, STILL).at(lattice) for each in ([channels[0]], [channels[1]], channels)]
    still = torch.zeros(1, 3, *lattice.node_grid.shape)
    return [term.force(place).nodes for place in (still, still + 1.0) for term in terms]


def test_channels_of_one_measure_are_a_weighted_sum() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    fixed, moving = volumes(where)
    faint = Channel(fixed, Volume(0.7 * moving.channels.flip(1), where), "lncc", 1.0)
    found = forces([Channel(fixed, moving, "lncc", 3.0), faint], where)
    for first, second, both in (found[:3], found[3:]):
        torch.testing.assert_close(both, 0.75 * first + 0.25 * second)


def test_forces_of_two_measures_are_scaled_to_one_size_at_the_first_step() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    fixed, moving = volumes(where)
    channels = [Channel(fixed, moving, "lncc", 1.0), Channel(fixed, moving, "mse", 1.0)]
    first, second, both, later, also, all_later = forces(channels, where)
    assert first.norm() > 10 * second.norm()
    mean = (first.norm() + second.norm()) / 2
    torch.testing.assert_close(both, 0.5 * mean * (first / first.norm() + second / second.norm()))
    torch.testing.assert_close(all_later, 0.5 * mean * (later / first.norm() + also / second.norm()))


def test_a_flat_channel_does_not_pull_and_scales_nothing() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    fixed, moving = volumes(where)
    flat = Volume(torch.full(where.shape, 0.5), where)
    first, _, both, *_ = forces([Channel(fixed, moving, "lncc"), Channel(flat, flat, "mse")], where)
    assert torch.isfinite(both).all()
    torch.testing.assert_close(both / both.norm(), first / first.norm())


class InOtherUnits:
    """A term whose value and force are both multiplied."""

    def __init__(self, term: ImageTerm, factor: float) -> None:
        self.term, self.factor = term, factor

    def at(self, lattice: Lattice) -> InOtherUnits:
        self.here = self.term.at(lattice)
        return self

    def force(self, displacement: Tensor) -> Force:
        value, nodes = self.here.force(displacement)
        return Force(value * self.factor, nodes * self.factor)


def test_the_share_of_a_guide_does_not_depend_on_its_unit() -> None:
    fixed, moving = volumes(phantoms.grid((3.0, 3.0, 3.0)))
    settings = Settings(LEVELS, smoothness=6.0)
    term = ImageTerm(fixed, moving, STILL, "mse")
    fields = [
        optimise(fixed, moving, STILL, settings, terms=[Guide(InOtherUnits(term, factor), 0.5)])[0].displacement
        for factor in (1.0, 1024.0)
    ]
    torch.testing.assert_close(*fields, atol=1e-4, rtol=0)


def test_a_guide_pulls_by_its_share() -> None:
    where = phantoms.grid((3.0, 3.0, 3.0))
    fixed, moving = volumes(where)
    flat = Volume(torch.zeros(where.shape), where)
    settings = Settings(LEVELS, smoothness=6.0)
    guided, _ = optimise(flat, flat, STILL, settings, terms=[Guide(ImageTerm(fixed, moving, STILL), 0.5)])
    assert float(guided.displacement.abs().max()) == 0  # a share of nothing: it never pulls by itself
    alone, _ = optimise(fixed, moving, STILL, settings)
    ignored, _ = optimise(fixed, moving, STILL, settings, terms=[Guide(Upward(), 0.0)])
    assert torch.equal(ignored.displacement, alone.displacement)
    means = []
    for share in (0.3, 0.9):
        upward, _ = optimise(fixed, moving, STILL, settings, terms=[Guide(Upward(), share)])
        means.append(float(upward.displacement[2].mean()))
    assert means[0] > float(alone.displacement[2].mean()) + 0.1 and means[1] > means[0]


def test_a_guide_may_lie_on_another_grid_and_stays_out_of_finer_levels() -> None:
    fixed, moving = volumes(phantoms.grid((3.0, 3.0, 3.0)))
    settings = Settings(LEVELS, smoothness=6.0)
    term = ImageTerm(*volumes(phantoms.grid((3.0, 3.5, 4.0), flips="j")), STILL, "mse")
    alone, _ = optimise(fixed, moving, STILL, settings)
    guided, _ = optimise(fixed, moving, STILL, settings, terms=[Guide(term, 0.7)])
    outside, _ = optimise(fixed, moving, STILL, settings, terms=[Guide(term, 0.7, finest_mm=7.0)])
    assert torch.equal(outside.displacement, alone.displacement)
    points = np.random.default_rng(0).uniform(-12, 12, (200, 3))
    errors = [np.linalg.norm(Chain((f,)).map_points(points) - points + [2, 0, 0], axis=1) for f in (guided, alone)]
    assert np.abs(errors[0] - errors[1]).max() > 0 and errors[0].mean() < 0.6
