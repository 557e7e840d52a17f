"""The U-Net that labels an image at every voxel from features on a coarser grid."""

from functools import partial

import pytest
import torch

from maxca.blocks import MAXCA
from maxca.networks.segmentation import InstanceNorm, SegmentationUNet, folded, unfolded


@pytest.mark.parametrize("fold", [(2, 2, 2), (2, 2, 1), (1, 3, 2)])
def test_folding_voxels_into_channels_is_undone(fold: tuple[int, int, int]) -> None:
    image = torch.randn(2, 1, *(4 * f for f in fold))
    together = folded(image, fold)
    assert together.shape[1] == fold[0] * fold[1] * fold[2]
    assert torch.equal(unfolded(together.permute(0, 2, 3, 4, 1), fold), image[:, 0])


def test_the_norm_is_torchs() -> None:
    torch.manual_seed(0)
    norm = InstanceNorm(5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 4, 6, 3) * 7 + 3
    expected = torch.nn.functional.instance_norm(x, weight=norm.weight.flatten(), bias=norm.bias.flatten())
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("finest", [None, partial(MAXCA, heads=2, region=4)])
def test_every_voxel_gets_a_score_for_every_class(finest: object) -> None:
    network = SegmentationUNet(7, (8, 12), (2, 2, 1), ((2, 2, 2),), embedding=5, finest=finest)  # type: ignore[arg-type]
    assert network.multiple == (4, 4, 2)
    embeddings = network(torch.randn(1, 1, 16, 12, 6))
    assert embeddings.shape == (1, 8, 6, 6, 4, 5)
    assert network.scores(embeddings).shape == (1, 8, 6, 6, 4, 7)


def test_it_learns_where_two_shapes_are() -> None:
    torch.manual_seed(0)
    network = SegmentationUNet(3, (8, 16), (2, 2, 2), ((2, 2, 2),), embedding=8)
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    labels[:, 2:9, 3:11, 4:12] = 1
    labels[:, 10:15, 3:13, 2:8] = 2
    image = (labels.float() + 0.1 * torch.randn(labels.shape)).unsqueeze(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        scores = network.scores(network(image))
        truth = folded(labels.unsqueeze(1), network.fold).permute(0, 2, 3, 4, 1)
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 4), truth.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = unfolded(network.scores(network(image)).argmax(-1), network.fold)
    assert float((found == labels).float().mean()) > 0.97
