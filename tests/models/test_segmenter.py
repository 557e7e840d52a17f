"""A segmentation lies where its image lies, on any grid; as vectors, equal labels are equal."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
import torch
from segmenters import ByBrightness

from maxca.engine.volume import Volume, normalise
from maxca.geometry import Chain, Grid
from maxca.models import segmentation
from maxca.models.segmentation import DIMENSIONS, Segmenter
from maxca.networks.segmentation import SegmentationUNet

NAMES = {0: "background", 7: "grey", 1000: "bright"}


def segmenter(**options: object) -> Segmenter:
    return Segmenter(ByBrightness(16), NAMES, **options)  # type: ignore[arg-type]


def two_regions(where: Grid) -> np.ndarray:
    return np.select(
        [phantoms.regions(phantoms.nodes(where)) > 2, phantoms.regions(phantoms.nodes(where)) > 0], [0.9, 0.3], 0.0
    )


@pytest.mark.parametrize("flips", ["", "ij", "ijk"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.5, 1.0)])
def test_the_labels_lie_where_the_image_lies(spacing: tuple[float, float, float], flips: str) -> None:
    where = phantoms.grid(spacing, flips=flips)
    volume = Volume(torch.from_numpy(two_regions(where)).float(), where)
    found = segmenter()(volume)
    assert found.grid.spacing.tolist() == [1.0, 1.0, 1.0]
    labels = segmenter().labels(found).float()
    back = Chain().resample(labels[None], found.grid, where, "nearest")[0].numpy()
    truth = np.select([two_regions(where) > 0.5, two_regions(where) > 0.2], [1000, 7], 0)
    assert set(np.unique(labels.numpy())) == {0, 7, 1000}
    for label in (7, 1000):
        both = ((back == label) & (truth == label)).sum()
        assert 2 * both / ((back == label).sum() + (truth == label).sum()) > 0.93, label


def test_the_coarse_segmentation_is_that_of_the_labels() -> None:
    where = phantoms.grid((1.0, 1.0, 1.0))
    volume = Volume(torch.from_numpy(two_regions(where)).float(), where)
    found = segmenter()(volume)
    coarse, directions = segmenter().coarse(found), segmenter().vectors
    expected = coarse.vectors
    assert expected.channels.shape == (DIMENSIONS, *(n // 2 for n in found.grid.shape))
    assert expected.grid.spacing.tolist() == [2.0, 2.0, 2.0]
    torch.testing.assert_close(directions.norm(dim=1), torch.tensor([0.0, 1.0, 1.0]))
    labels = segmenter().labels(found).float()[None]
    sampled = Chain().resample((labels == 1000).float(), found.grid, expected.grid)[0]
    inside = sampled > 0.999
    assert int(inside.sum()) > 100
    torch.testing.assert_close(
        expected.channels[:, inside], directions[2][:, None].expand(-1, int(inside.sum())), atol=1e-3, rtol=0
    )
    assert bool((coarse.classes[inside] == 2).all())
    assert float(expected.channels[:, 0, 0, 0].abs().max()) == 0 and int(coarse.classes[0, 0, 0]) == 0
    assert 0.98 < coarse.confidence <= 1


def test_uncertain_labels_have_low_confidence() -> None:
    where = phantoms.grid((1.0, 1.0, 1.0))
    between = Volume(torch.from_numpy(np.where(two_regions(where) > 0, 0.6, 0.0)).float(), where)
    network = ByBrightness(16)
    network.scores = lambda embeddings: -((embeddings - torch.tensor([0.0, 0.9, 1.1])) ** 2)  # type: ignore[method-assign]
    unsure = Segmenter(network, NAMES)  # type: ignore[arg-type]
    assert unsure.coarse(unsure(between)).confidence < 0.5


def test_the_middle_of_a_large_image_is_segmented() -> None:
    where = phantoms.grid((1.0, 1.0, 1.0))
    volume = Volume(normalise(torch.from_numpy(phantoms.scene(phantoms.nodes(where)))), where)
    found = segmenter(shape=(32, 32, None))(volume)
    assert found.grid.shape[:2] == (32, 32) and found.grid.shape[2] >= 50
    middle = found.grid.to_world((np.array(found.grid.shape) - 1) / 2)
    np.testing.assert_allclose(middle, 0, atol=1.5)


def unet() -> SegmentationUNet:
    """A network with random weights, whose answers differ between an image and its mirror image."""
    torch.manual_seed(0)
    network = SegmentationUNet(4, channels=(4, 6), fold=(2, 2, 2), strides=((2, 2, 2),), depth=1, embedding=5)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


def test_averaged_with_its_mirror_image_both_sides_are_equal() -> None:
    """The labels of the mirror image are the mirrored labels, with left and right exchanged."""
    names = {0: "background", 1: "left", 2: "middle", 3: "right"}
    swapped = torch.tensor([0, 3, 2, 1])
    where = Grid((24, 20, 16), np.eye(4))
    values = torch.rand(where.shape, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.2

    def labels(volume: torch.Tensor, mirror: tuple[int, ...] | None) -> torch.Tensor:
        model = Segmenter(unet(), names, mirror=mirror)
        return model.labels(model(Volume(volume, where)))

    alone, averaged = (labels(values, mirror) for mirror in (None, (0, 3, 2, 1)))
    assert (swapped[labels(values.flip(0), None)].flip(0) != alone).float().mean() > 0.05
    assert (swapped[labels(values.flip(0), (0, 3, 2, 1))].flip(0) != averaged).float().mean() < 1e-3
    assert 0.01 < float((alone != averaged).float().mean()) < 0.9


def test_bfloat16_changes_few_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Grid((24, 20, 16), np.eye(4))
    volume = Volume(torch.rand(where.shape, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.2, where)
    results = []
    for fast in (False, True):
        monkeypatch.setattr(segmentation, "fast_bfloat16", lambda fast=fast: fast)
        model = Segmenter(unet(), {n: str(n) for n in range(4)}).on(torch.device("cpu"))
        found = model(volume)
        assert found.embeddings.dtype == torch.float32
        results.append((found.embeddings, model.labels(found)))
    (exact, labels), (rounded, others) = results
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, atol=0.05 * float(exact.abs().max()), rtol=0)
    assert (labels != others).float().mean() < 0.05
