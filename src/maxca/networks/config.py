"""A network by its name and arguments, as stored in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import nn

from maxca.networks.flow import FlowOptions
from maxca.networks.perlevel import describe
from maxca.networks.presets import NETWORKS
from maxca.origins import UnknownName, origin

VERSION = 2  # of the stored description: in version 1, the fields of FlowOptions were among the arguments


@dataclass(frozen=True)
class NetworkConfig:
    """The configuration of a network without its weights.

    Args:
        name: a key of ``NETWORKS``.
        arguments: for its constructor; a block may be a name, a callable, ``{"name": …, …}``, or a list of them;
            ``flow`` may be a ``FlowOptions`` or a dict of its fields.
        plugins: for a network from a file, the file names of the plugins of its names.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = field(default=(), compare=False)

    def build(self) -> nn.Module:
        """A network with new weights.

        Raises:
            UnknownName: for an unknown name of a network or block.
            TypeError: for invalid arguments of the network.
        """
        try:
            if self.name not in NETWORKS:
                raise UnknownName("network", self.name, NETWORKS)
            return NETWORKS[self.name](**self._built())
        except UnknownName as error:
            raise error.from_plugins(self.plugins) from None

    def as_plain(self) -> dict[str, Any]:
        """The configuration as plain data for a file; see ``network_from_plain``.

        Raises:
            ValueError: for a block or an encoder without a name.
        """
        arguments = self._built()
        if arguments.get("block") is not None:
            arguments["block"] = describe(arguments["block"])
        if "flow" in arguments:
            arguments["flow"] = asdict(arguments["flow"])
        if "encoder" in arguments:
            raise ValueError("an encoder cannot be saved by name: register its network (maxca.plugins)")
        names = {origin("network", self.name), *(origin("block", word) for word in _words(arguments.get("block")))}
        plugins = sorted(name for name in names if name)
        plain = {"version": VERSION, "name": self.name, "arguments": arguments}
        return plain | {"plugins": plugins} if plugins else plain

    def _built(self) -> dict[str, Any]:
        """The arguments with ``flow`` as an object."""
        flow = self.arguments.get("flow")
        return self.arguments | ({"flow": FlowOptions(**flow)} if isinstance(flow, Mapping) else {})


def network_from_plain(plain: Mapping[str, Any]) -> NetworkConfig:
    """The configuration from the output of ``NetworkConfig.as_plain``, of this or an earlier version.

    Raises:
        ValueError: for a later version, or invalid options of a flow.
        TypeError: for unknown fields of a flow.
    """
    arguments = dict(plain["arguments"])
    version = plain.get("version", 1)
    if version == 1:
        flow = {each.name: arguments.pop(each.name) for each in fields(FlowOptions) if each.name in arguments}
        arguments |= {"flow": flow} if flow else {}
    elif version != VERSION:
        raise ValueError(
            f"its network is written in version {version!r}, this maxca reads 1 to {VERSION}; update maxca"
        )
    if "flow" in arguments:
        arguments["flow"] = FlowOptions(**arguments["flow"])
    return NetworkConfig(str(plain["name"]), arguments, tuple(map(str, plain.get("plugins", ()))))


def build_network(name: str, **arguments: Any) -> nn.Module:
    """A registration network: ``network(fixed, moving)`` → ``Prediction``.

    Args:
        name: one of ``NETWORKS``: voxelmorph, transmorph, nice_net, nice_trans, corrmlp, corrxca, each also ``_tiny``.
        arguments: those of the network, such as ``block=partial(MAXCA, heads=2, region=6)`` or
            ``flow=FlowOptions(velocity=True)``.

    Returns:
        The network, which initially predicts zero motion.

    Raises:
        ValueError: for an unknown network or block.
        TypeError: for invalid arguments of the network.
    """
    return NetworkConfig(name, arguments).build()


def _words(value: Any) -> Iterator[str]:
    """All strings in lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _words(each)
