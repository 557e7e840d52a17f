"""What every block promises, and what each of them does."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from maxca.blocks import BLOCKS, MAXCA, XCA, ConvBlock, GatedMLP, SelfAttention, Window, cost, matched

SHAPES = [(1, 1, 1), (7, 1, 5), (8, 8, 8), (9, 6, 11)]


def volume(shape: tuple[int, int, int], channels: int = 8, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_keeps_the_shape(name: str, shape: tuple[int, int, int]) -> None:
    x = volume(shape)
    out = BLOCKS[name](8)(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_works_in_other_precisions(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block = BLOCKS[name](8)
    x = volume((8, 8, 8))
    expected = block(x)
    out = block.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    assert (out.float() - expected).norm() <= 2e-2 * expected.norm()


@pytest.mark.parametrize("name", BLOCKS)
def test_the_memory_layout_of_the_input_does_not_matter(name: str) -> None:
    block = BLOCKS[name](8).eval()
    x = volume((6, 5, 7))
    torch.testing.assert_close(
        block(x.contiguous(memory_format=torch.channels_last_3d)), block(x), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("axes", [("dilated", "regional"), ("regional",), ("plain",)])
def test_checkpointing_changes_nothing_but_memory(axes: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    plain = MAXCA(8, heads=2, region=3, axes=axes)
    thrifty = MAXCA(8, heads=2, region=3, axes=axes, checkpointing=True)
    thrifty.load_state_dict(plain.state_dict())
    grads = []
    for block in (plain, thrifty):
        x = volume((7, 6, 5)).requires_grad_()
        block(x).square().sum().backward()
        grads.append([x.grad, *(p.grad for p in block.parameters())])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_regional_attention_sees_its_region_alone_and_dilated_all_of_them() -> None:
    # Beyond the reach of its convolution, a voxel is seen by attention only.
    for tokens, far_is_seen in (("within", False), ("across", True)):
        layer = XCA(4, 1, 4, tokens)
        x = volume((16, 4, 4), 4, 1)
        changed = x.clone()
        changed[:, 0, 13, 1, 1] += 5  # one channel: what all have in common is normed away
        difference = (layer(changed) - layer(x)).abs().amax(dim=(0, 1))
        assert (difference[:8].max() > 1e-6) == far_is_seen


def test_plain_attention_is_regional_with_one_region() -> None:
    x = volume((6, 5, 4))
    torch.manual_seed(0)
    plain = XCA(8, 2)
    whole = XCA(8, 2, (6, 5, 4))
    whole.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain(x), whole(x))


def test_masked_padding_is_not_attended_to() -> None:
    torch.manual_seed(0)
    layer = XCA(8, 2, 4, mask_padding=True)
    published = XCA(8, 2, 4)
    published.load_state_dict(layer.state_dict())
    ragged, whole = volume((5, 4, 4)), volume((8, 4, 4))
    assert not torch.allclose(layer(ragged)[:, :, 4], published(ragged)[:, :, 4], atol=1e-4)
    torch.testing.assert_close(layer(whole), published(whole))
    # Alone in its region, the last voxel's attention is that of its tokens and of nothing else.
    one = XCA(8, 2, (1, 4, 4), mask_padding=True)
    one.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(ragged)[:, :, 4], one(torch.cat([ragged, torch.zeros(2, 8, 3, 4, 4)], 2))[:, :, 4])


def test_a_window_ignores_what_fills_it_up() -> None:
    torch.manual_seed(0)
    block = Window(8, 2, window=(4, 3, 3))
    x = volume((2, 3, 3))
    fitting = Window(8, 2, window=(2, 3, 3))
    state = block.state_dict()
    for n in range(2):
        state[f"layers.{n}.position"] = state[f"layers.{n}.position"][:, 2:-2]
    fitting.load_state_dict(state)
    torch.testing.assert_close(block(x), fitting(x), atol=1e-5, rtol=1e-4)


def test_full_attention_refuses_what_would_take_forever() -> None:
    with pytest.raises(ValueError, match="1331 voxels is not allowed"):
        SelfAttention(8, most_tokens=1000)(volume((11, 11, 11)))


@pytest.mark.parametrize("make", [MAXCA, XCA, Window, SelfAttention])
def test_heads_must_divide_the_channels(make: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        make(8, heads=3)


@pytest.mark.parametrize("region", [0, (4, 0, 4)])
def test_an_empty_region_is_refused(region: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one voxel"):
        MAXCA(8, region=region)


def test_what_a_block_costs_counted_by_hand() -> None:
    c, heads, side = 8, 2, 12
    counted = cost(MAXCA(c, heads=heads, region=6), volume((side,) * 3, c, 1))
    hidden = c // 4
    layer = c * c + c + 27 * 3 * c * c + 3 * c + 2 * c + heads
    gate = c * hidden + hidden + hidden * c + c
    expected = (2 * c + c * 2 * c + 2 * c + 2 * layer + 2 * c * c + c) + (2 * c + 2 * (27 * c * c + c) + gate)
    assert counted.parameters == expected
    voxels = side**3
    convolutions = (2 * 27 * 3 + 2 * 27) * c * c * voxels
    projections = (2 + 2) * c * c * voxels
    attention = 2 * (4 + 1) * c * c * voxels  # lengths and products of q and k in one Gram matrix; then v
    folded = (voxels // 6**3 + 6**3) * c * c * (c // heads)  # each attention matrix times the output projection
    folded += 2 * c**3  # that is first multiplied by the columns of the merge
    assert counted.voxels == voxels
    assert counted.multiply_adds == convolutions + projections + attention + folded + 2 * c * hidden


@pytest.mark.parametrize("by", ["parameters", "multiply_adds"])
@pytest.mark.parametrize("rival", [partial(MAXCA, heads=2, region=6), GatedMLP], ids=["maxca", "gmlp"])
def test_a_convolution_is_matched_in_parameters_or_multiply_adds(rival: partial, by: str) -> None:
    for channels in (8, 16):
        x = volume((12, 12, 12), channels, 1)
        theirs, ours = cost(rival(channels), x), cost(matched(rival, by)(channels), x)
        assert abs(getattr(ours, by) / getattr(theirs, by) - 1) < 0.05


def test_the_identity_is_free() -> None:
    x = volume((4, 4, 4))
    assert BLOCKS["identity"](8)(x) is x
    assert cost(BLOCKS["identity"](8), x).parameters == 0
    assert cost(ConvBlock(8), x).parameters == 2 * (27 * 64 + 8)
