"""Registration networks: ``network(fixed, moving)`` → ``Prediction``, with any block inside."""

from maxca.networks.config import NetworkConfig, build_network, network_from_plain
from maxca.networks.flow import FlowOptions
from maxca.networks.parts import Prediction, compose, integrate, warp
from maxca.networks.presets import NETWORKS

__all__ = [
    "NETWORKS",
    "FlowOptions",
    "NetworkConfig",
    "Prediction",
    "build_network",
    "compose",
    "integrate",
    "network_from_plain",
    "warp",
]
