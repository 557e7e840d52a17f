"""Every network with every block: any size, identity at the start, gradients everywhere, files, precisions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import maxca
from maxca.blocks import BLOCKS, MAXCA, Block, GatedMLP, Window
from maxca.geometry.warp import Padding
from maxca.models.load import Model, load_model
from maxca.models.segmentation_file import is_segmenter
from maxca.models.zoo import find_model, shipped
from maxca.networks import NETWORKS, FlowOptions, NetworkConfig, compose, integrate, warp
from maxca.networks.parts import upsample_flow

SHAPE = (11, 15, 10)
TINY = [name for name in NETWORKS if name.endswith("_tiny")]
SMALL: dict[str, Block] = {
    "gmlp": partial(GatedMLP, windows=(3, 5)),
    "window": partial(Window, heads=2, window=3),
    **{name: partial(BLOCKS[name], heads=2, region=3) for name in ("maxca", "regional", "dilated")},
}


def build(name: str, block: str) -> nn.Module:
    torch.manual_seed(0)
    return maxca.build_network(name, block=SMALL.get(block, BLOCKS[block]))


def pair(shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 1, *shape, generator=generator), torch.rand(1, 1, *shape, generator=generator)


def awake(network: nn.Module) -> nn.Module:
    """With heads that move something, so that what comes before them matters."""
    for name, parameter in network.named_parameters():
        if "heads." in name or name.startswith(("head.", "affine.out")):
            nn.init.normal_(parameter, std=0.1)
        if name.endswith("gate.squeeze.bias"):  # a single unit may be born on the flat side of its ReLU
            nn.init.ones_(parameter)
    return network


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", TINY)
def test_every_network_takes_every_block(name: str, block: str, tmp_path: Path) -> None:
    network = build(name, block)
    fixed, moving = pair()

    flow = network(fixed, moving).flow
    assert flow.shape == (1, 3, *SHAPE)
    assert flow.dtype == torch.float32
    assert flow.abs().max() < 1e-3, "nothing moves at the start"

    network = awake(network)
    flow = network(fixed, moving).flow
    (flow * torch.linspace(-1, 1, flow.numel()).view_as(flow)).sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not [n for n in still if not unused(n)], "a gradient reaches every parameter"

    network.eval()
    with torch.no_grad():
        once, twice = (network(fixed, moving).flow for _ in range(2))
        assert torch.equal(once, twice)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(fixed, moving).flow
        assert half.dtype == torch.float32
        assert (half - once).norm() <= 0.2 * once.norm()

        model = Model(network, NetworkConfig(name, {"block": SMALL.get(block, BLOCKS[block])}))
        model.save(tmp_path / "model.safetensors")
        again = load_model(tmp_path / "model.safetensors")
        assert torch.equal(again.network(fixed, moving).flow, once)


def unused(name: str) -> bool:
    """A bias before a norm that takes it away again has no gradient to speak of."""
    return name.endswith("bias")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 9, 4), (1, 30, 20), (33, 16, 24)])
def test_any_size_will_do(name: str, shape: tuple[int, int, int]) -> None:
    network = maxca.build_network(name).eval()
    with torch.no_grad():
        assert network(*pair(shape)).flow.shape == (1, 3, *shape)


@pytest.mark.parametrize("block", ["maxca", "gmlp", "window"])
@pytest.mark.parametrize("name", TINY)
def test_a_batch_is_its_examples(name: str, block: str) -> None:
    network = awake(build(name, block)).eval()
    fixed, moving = pair((9, 14, 11))
    pairs = [(fixed, moving), (moving, fixed), (moving, fixed.flip(3))]
    with torch.no_grad():
        for precision in (torch.float64, torch.float32):
            network.to(precision)
            given = [[image.to(precision) for image in each] for each in pairs]
            alone = [network(*each) for each in given]
            together = network(*map(torch.cat, zip(*given, strict=True)))
            size = float(together.flow.abs().max())
            # In float32 sums are rounded in another order: some units of the last place of the largest motion.
            close = {"atol": 1e-12 if precision == torch.float64 else 3e-6 * max(1.0, size), "rtol": 0}
            assert size > 0.01
            torch.testing.assert_close(together.flow, torch.cat([each.flow for each in alone]), **close)
            if together.affine is not None:
                torch.testing.assert_close(together.affine, torch.cat([each.affine for each in alone]), **close)


@pytest.mark.parametrize("name", [name for name in shipped() if not is_segmenter(find_model(name))])
def test_a_bundled_model_predicts_a_batch_as_its_examples(name: str) -> None:
    network = load_model(find_model(name)).network.double()
    fixed, moving = (image.double() for image in pair((16, 20, 14)))
    pairs = [(fixed, moving), (moving, fixed)]
    with torch.no_grad():
        alone = torch.cat([network(*each).flow for each in pairs])
        together = network(*map(torch.cat, zip(*pairs, strict=True))).flow
    assert together.abs().max() > 0.01
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_warps_of_a_batch_are_those_of_its_examples(padding: Padding) -> None:
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(3, 2, *SHAPE, generator=generator)
    flow, other = torch.randn(2, 3, 3, *SHAPE, generator=generator)
    each = list(zip(volume.split(1), flow.split(1), other.split(1), strict=True))
    for together, alone in (
        (warp(volume, flow, padding), [warp(v, f, padding) for v, f, _ in each]),
        (compose(flow, other), [compose(f, o) for _, f, o in each]),
        (integrate(flow), [integrate(f) for _, f, _ in each]),
        (upsample_flow(flow, (2, 2, 1)), [upsample_flow(f, (2, 2, 1)) for _, f, _ in each]),
    ):
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", TINY)
def test_a_velocity_is_integrated(name: str) -> None:
    torch.manual_seed(0)
    network = awake(maxca.build_network(name, flow=FlowOptions(velocity=True))).eval()
    plain = maxca.build_network(name).eval()
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        flow, velocity = network(*pair()).flow, plain(*pair()).flow
    assert flow.abs().max() > 1e-3
    assert not torch.equal(flow, velocity)


@pytest.mark.parametrize("name", ["nice_net_tiny", "nice_trans_tiny", "corrmlp_tiny", "corrxca_tiny"])
def test_flows_of_levels_are_added_or_composed(name: str) -> None:
    added = awake(maxca.build_network(name)).eval()
    composed = maxca.build_network(name, flow=FlowOptions(composed=True)).eval()
    composed.load_state_dict(added.state_dict())
    with torch.no_grad():
        a, b = added(*pair()).flow, composed(*pair()).flow
    assert not torch.equal(a, b)
    assert (a - b).norm() < a.norm()


def test_blocks_are_given_by_level() -> None:
    network = maxca.build_network("corrxca_tiny", block=[partial(MAXCA, heads=2, region=4), "window"])
    kinds = [type(stage.match.block).__name__ for stage in network.stages]
    assert kinds == ["MAXCA", "Window", "Window"]


def test_full_resolution_may_be_left_to_interpolation() -> None:
    network = awake(maxca.build_network("corrxca_tiny", flow=FlowOptions(finest=1))).eval()
    assert len(network.stages) == 2
    with torch.no_grad():
        flow = network(*pair()).flow
    assert flow.shape == (1, 3, *SHAPE)
    with pytest.raises(ValueError, match="no level 3"):
        maxca.build_network("corrxca_tiny", flow=FlowOptions(finest=3))


def test_the_affine_of_nice_trans_is_the_linear_part_of_its_flow() -> None:
    torch.manual_seed(0)
    network = maxca.build_network("nice_trans_tiny").eval()
    nn.init.normal_(network.affine.out.weight, std=0.05)
    with torch.no_grad():
        flow, affine = network(*pair())
    assert affine.shape == (1, 3, 4)
    voxels = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")).flatten(1)
    expected = affine[0, :, :3] @ voxels + affine[0, :, 3:] - voxels
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(flow[0].flatten(1), expected, atol=2e-3, rtol=0)


def test_published_sizes() -> None:
    corrmlp = maxca.build_network("corrmlp")
    assert round(sum(p.numel() for p in corrmlp.parameters()) / 1e6, 2) == 4.19


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "vozelmorph"}, "unknown network 'vozelmorph'"),
        ({"name": "corrxca_tiny", "block": "maxcaa"}, "unknown block 'maxcaa'"),
        ({"name": "nice_net_tiny", "block": []}, "received 0"),
        ({"name": "corrxca_tiny", "block": ["conv"] * 4}, "received 4"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        maxca.build_network(**arguments)


@pytest.mark.parametrize("shapes", [((1, 1, 8, 8, 8), (1, 1, 8, 8, 9)), ((1, 2, 8, 8, 8),) * 2, ((8, 8, 8),) * 2])
def test_images_that_are_no_pair_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    network = maxca.build_network("voxelmorph_tiny")
    with pytest.raises(ValueError, match="two volumes"):
        network(*(torch.zeros(shape) for shape in shapes))


def test_swapping_the_images_negates_a_symmetric_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    flow = FlowOptions(finest=1, velocity=True, symmetric=True)
    network = awake(maxca.build_network("corrxca_tiny", flow=flow)).eval()
    monkeypatch.setattr("maxca.networks.pyramid.integrate", lambda velocity: velocity)
    with torch.no_grad():
        there, back = network(*pair()).flow, network(*reversed(pair())).flow
    assert there.abs().mean() > 1e-3
    torch.testing.assert_close(there, -back, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="symmetric network needs velocity"):
        maxca.build_network("corrxca_tiny", flow=FlowOptions(symmetric=True))


def test_flat_halvings_leave_slices_alone() -> None:
    network = awake(maxca.build_network("corrxca_tiny", flow=FlowOptions(flat=1, finest=1))).eval()
    features = network.encoder(torch.rand(1, 1, 16, 24, 6))
    assert [tuple(level.shape[2:]) for level in features] == [(16, 24, 6), (8, 12, 6), (4, 6, 3)]
    for shape in (SHAPE, (20, 16, 5), (16, 16, 1)):
        flow = network(*pair(shape)).flow
        assert flow.shape == (1, 3, *shape)
        flow.sum().backward()
    for flat in (-1, 3):
        with pytest.raises(ValueError, match="flat halvings of 2"):
            maxca.build_network("corrxca_tiny", flow=FlowOptions(flat=flat))
