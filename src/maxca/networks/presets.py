"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from maxca.networks.corr import corr_network, corrxca
from maxca.networks.nice_net import nice_net, nice_trans
from maxca.networks.perlevel import describe
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


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that makes a network but its weights.

    Args:
        name: a key of ``NETWORKS``.
        arguments: for its constructor; a block may be a name, a callable, ``{"name": …, …}``, or a list of them.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """A network with new weights.

        Raises:
            ValueError: for an unknown name.
            TypeError: for arguments that the network does not take.
        """
        if self.name not in NETWORKS:
            raise ValueError(f"no network is called {self.name!r}; choose one of {', '.join(NETWORKS)}")
        return NETWORKS[self.name](**self.arguments)

    def as_plain(self) -> dict[str, Any]:
        """Numbers, names, lists and dicts only, as a file can hold them.

        Raises:
            ValueError: for a block that has no name.
        """
        arguments = dict(self.arguments)
        if arguments.get("block") is not None:
            arguments["block"] = describe(arguments["block"])
        return {"name": self.name, "arguments": arguments}


def build_network(name: str, **arguments: Any) -> nn.Module:
    """A registration network: ``network(fixed, moving)`` → ``Prediction``.

    Args:
        name: one of ``NETWORKS``: voxelmorph, transmorph, nice_net, nice_trans, corrmlp, corrxca, each also ``_tiny``.
        arguments: those of the network, such as ``block=partial(MAXCA, heads=2, region=6)``.

    Returns:
        The network, which moves nothing yet.

    Raises:
        ValueError: for an unknown network or block.
        TypeError: for arguments that the network does not take.
    """
    return NetworkConfig(name, arguments).build()
