"""Registration networks: ``network(fixed, moving)`` → ``Prediction``, with any block inside."""

from maxca.networks.parts import Prediction, compose, integrate, warp
from maxca.networks.presets import NETWORKS, NetworkConfig, build_network

__all__ = ["NETWORKS", "NetworkConfig", "Prediction", "build_network", "compose", "integrate", "warp"]
