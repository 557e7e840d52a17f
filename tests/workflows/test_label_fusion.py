"""Fusion of labels: joint label fusion against ANTs' on the same warped atlases, and cases with a known answer."""

from __future__ import annotations

import ants
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from maxca.workflows.labelling.fusion import stack as stacks
from maxca.workflows.labelling.fusion.fuse import FusionSettings, fuse
from maxca.workflows.labelling.fusion.stack import stacked

SHAPE = (30, 28, 26)
INNER = (slice(8, -8),) * 3  # away from the outside, where ANTs compares incomplete patches
Atlas = tuple[np.ndarray, np.ndarray]


def brain(seed: int, warped: float) -> Atlas:
    """An image with texture and four labels, of which the texture and the borders are displaced smoothly."""
    random = np.random.default_rng(seed)
    nodes = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).astype(float)
    shifts = [warped * gaussian_filter(random.normal(size=SHAPE), 4) for _ in range(3)]
    x, y, z = (n + 30 * shift for n, shift in zip(nodes, shifts, strict=True))
    texture = np.sin(x / 2.1) + np.cos(y / 1.7) * np.sin(z / 2.3) + np.sin((x + y - z) / 3)
    labels = 10 * (1 + (x > SHAPE[0] / 2) + 2 * (y + 0.3 * z > SHAPE[1] / 2 + 4))
    return (1000 * texture + 5 * random.normal(size=SHAPE)).astype(np.float32), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def target() -> np.ndarray:
    return brain(0, 0)[0]


@pytest.fixture(scope="module")
def atlases() -> list[Atlas]:
    return [brain(seed, 2) for seed in range(1, 6)]


def by_ants(target: np.ndarray, atlases: list[Atlas], search: int, alpha: float, beta: float) -> dict[int, np.ndarray]:
    """The probabilities of joint label fusion by ANTs at the voxels where the atlases differ."""
    contested = np.zeros(SHAPE, bool)
    for _, labels in atlases:
        contested |= labels != atlases[0][1]
    images = [ants.from_numpy(image) for image, _ in atlases]
    labels = [ants.from_numpy(each.astype(np.uint32)) for _, each in atlases]
    done = ants.joint_label_fusion(
        ants.from_numpy(target),
        ants.from_numpy(contested.astype(np.float32)),
        images,
        beta=beta,
        rad=2,
        label_list=labels,
        rho=alpha,
        usecor=True,
        r_search=search,
    )
    found = dict(zip(done["segmentation_numbers"], (each.numpy() for each in done["probabilityimages"]), strict=True))
    return {0: 1 - sum(found.values()), **found}  # ANTs leaves out the background


@pytest.mark.parametrize(("search", "alpha", "beta"), [(0, 0.1, 2), (1, 0.1, 2), (2, 0.01, 4)])
def test_joint_label_fusion_is_that_of_ants(
    target: np.ndarray, atlases: list[Atlas], search: int, alpha: float, beta: float
) -> None:
    atlases = [(image, np.where(labels == 10, 0, labels)) for image, labels in atlases]  # with a background
    theirs = by_ants(target, atlases, search, alpha, beta)
    settings = FusionSettings(search=search, alpha=alpha, beta=beta)
    ours = fuse(stacked(target, atlases), "joint", settings, wanted=None)
    probabilities = {0: 1 - sum(ours.probabilities.values()), **ours.probabilities}
    contested = np.stack([labels for _, labels in atlases]).std(0)[INNER] > 0
    assert contested.sum() > 300
    for label, probability in theirs.items():
        difference = np.abs(probability[INNER] - probabilities[label][INNER])[contested]
        assert np.quantile(difference, 0.99) < 2e-3, label
    order = np.array(sorted(theirs))
    winner = order[np.argmax([theirs[label][INNER] for label in order], axis=0)]
    assert (winner == ours.labels[INNER])[contested].mean() > 0.995


def test_joint_fusion_beats_a_vote_and_a_copied_atlas_has_no_more_votes(
    target: np.ndarray, atlases: list[Atlas]
) -> None:
    truth = brain(0, 0)[1]
    right = {how: (fuse(stacked(target, atlases), how).labels == truth).mean() for how in ("vote", "local", "joint")}
    assert right["joint"] > right["vote"] and right["local"] > right["vote"]
    copied = [*atlases, *[atlases[0]] * 6]  # a majority of one atlas
    assert (fuse(stacked(target, copied), "vote").labels == atlases[0][1]).all()
    assert (fuse(stacked(target, copied), "joint").labels == truth).mean() > right["joint"] - 0.02


def test_a_vote_is_counted_by_hand_and_ties_go_to_the_first_atlas(target: np.ndarray) -> None:
    maps = [np.zeros(SHAPE, np.uint16) for _ in range(4)]
    for labels, value in zip(maps, (700, 3, 3, 700), strict=True):
        labels[10:20, 10:20, 10:20] = value
    maps[3][15:20] = 0
    fused = fuse(stacked(target, [(target, labels) for labels in maps]), "vote", wanted=(3,))
    assert fused.labels.dtype == np.uint16 and set(np.unique(fused.labels)) == {0, 3, 700}
    assert (fused.labels[10:15, 10:20, 10:20] == 700).all() and (fused.labels[15:20, 10:20, 10:20] == 3).all()
    assert fused.confidence[12, 12, 12] == pytest.approx(0.5, abs=1e-3) and fused.confidence[0, 0, 0] == 1
    assert fused.probabilities.keys() == {3}
    assert fused.probabilities[3][17, 12, 12] == pytest.approx(0.5, abs=1e-3)
    assert fused.probabilities[3][0, 0, 0] == 0


@pytest.mark.parametrize("how", ["vote", "local", "joint"])
def test_probabilities_add_up_and_do_not_depend_on_the_slabs(
    target: np.ndarray, atlases: list[Atlas], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stacked(target, atlases)
    whole = fuse(stack, how, wanted=None)
    total = sum(whole.probabilities.values())
    np.testing.assert_allclose(total, 1, atol=1e-5)
    best = np.max(list(whole.probabilities.values()), axis=0)
    np.testing.assert_allclose(whole.confidence, best, atol=1e-6)
    monkeypatch.setattr(stacks, "SLAB", 1 << 17)
    assert len(list(stack.slabs(5))) > 4
    parts = fuse(stack, how, wanted=None)
    assert (parts.labels == whole.labels).mean() > 0.999  # the noise of a correlation is relative to its slab
    np.testing.assert_allclose(parts.confidence, whole.confidence, atol=0.02)


def test_a_picture_and_constant_images_are_fused(target: np.ndarray, atlases: list[Atlas]) -> None:
    flat = [(image[:, :, :1], labels[:, :, :1]) for image, labels in atlases]
    truth = brain(0, 0)[1][:, :, :1]
    for how in ("vote", "local", "joint"):
        assert (fuse(stacked(target[:, :, :1], flat), how).labels == truth).mean() > 0.9
    empty = [(np.zeros(SHAPE, np.int16), labels) for _, labels in atlases]
    votes = fuse(stacked(np.zeros(SHAPE), empty), "vote").labels
    assert (fuse(stacked(np.zeros(SHAPE), empty), "joint").confidence <= 1.0001).all()
    assert (fuse(stacked(np.zeros(SHAPE), empty), "local").labels == votes).mean() > 0.999


def test_memory_does_not_grow_with_the_number_of_labels(target: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The votes for 2000 labels are counted in slabs of a plane or few."""
    random = np.random.default_rng(0)
    names = random.permutation(20000)[:2000].reshape(10, 10, 20)
    labels = np.kron(names, np.ones((3, 3, 2), int))[:28, :28, :26]
    maps = [np.roll(labels, step, axis) for axis in range(3) for step in (0, 1)]
    one = target[:28]
    stack = stacked(one, [(one, each) for each in maps])
    monkeypatch.setattr(stacks, "VOTES", 32 << 20)
    slabs = [slab.labels[0].numel() * len(stack.values) * 4 for slab in stack.slabs(0)]
    assert max(slabs) <= stacks.VOTES < sum(slabs)
    fused = fuse(stack, "vote")
    votes = np.stack(maps)
    most = np.max([(votes == each).sum(0) for each in maps], axis=0)
    chosen = (votes == fused.labels).sum(0)
    assert (chosen == most).all()
