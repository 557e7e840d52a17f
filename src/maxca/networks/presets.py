"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from maxca.networks.corr import corr_network, corrxca
from maxca.networks.nice_net import nice_net, nice_trans
from maxca.networks.transmorph import TransMorph
from maxca.networks.unet import VoxelMorph

# The _tiny ones are for tests and for a first try on a CPU.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "voxelmorph": VoxelMorph,
    "transmorph": TransMorph,
    "nice_net": nice_net,
    "nice_trans": nice_trans,
    "corrmlp": corr_network,
    "corrxca": corrxca,
    "voxelmorph_tiny": partial(VoxelMorph, encoder=(4, 8, 8), decoder=(8, 8, 8), final=(8, 4)),
    "transmorph_tiny": partial(TransMorph, channels=12, depths=(1, 1), heads=(2, 2), window=3),
    "nice_net_tiny": partial(nice_net, encoder_channels=4, decoder_channels=4, levels=3),
    "nice_trans_tiny": partial(nice_trans, encoder_channels=4, decoder_channels=4, levels=3),
    "corrmlp_tiny": partial(corr_network, encoder_channels=4, decoder_channels=4, levels=3),
    "corrxca_tiny": partial(corrxca, encoder_channels=4, decoder_channels=12, levels=3, region=4),
}
