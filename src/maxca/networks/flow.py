"""Options common to all networks: how the flows of the levels are combined."""

from __future__ import annotations

from dataclasses import dataclass, fields

from maxca.networks.parts import Factors


@dataclass(frozen=True)
class FlowOptions:
    """How the flows of the levels are combined into the flow of a pair.

    Args:
        finest: the finest level that is decoded, 0 for full resolution, 1 for half of it, …; its flow is interpolated
            to the grid of the images. Most of the computation is at full resolution.
        velocity: integrate the flow, at full resolution, as a stationary velocity field, so that it is a
            diffeomorphism.
        composed: compose the flows of the levels; the published networks add them.
        symmetric: half the difference of the velocities of the two directions: exchanging the images inverts the
            prediction for any weights. Only the decoder runs twice.
        flat: the number of halvings, finest first, that do not affect the third axis, for stacks of a few thick
            slices.

    Raises:
        ValueError: for a field of another type, or a symmetric flow without velocity.
    """

    finest: int = 0
    velocity: bool = False
    composed: bool = False
    symmetric: bool = False
    flat: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            if type(value := getattr(self, each.name)) is not type(each.default):
                raise ValueError(f"flow: {each.name} is {value!r}, not of type {type(each.default).__name__}")
        if self.symmetric and not self.velocity:
            raise ValueError("a symmetric network needs velocity=True")

    def factors(self, levels: int) -> list[Factors]:
        """Downsampling factors along each axis between levels, finest first.

        Args:
            levels: of the encoder.

        Raises:
            ValueError: if no level is left to decode, or there are fewer halvings than flat ones.
        """
        if not 0 <= self.finest < levels:
            raise ValueError(f"{levels} levels have no level {self.finest} to decode from")
        halvings = levels - 1
        if not 0 <= self.flat <= halvings:
            raise ValueError(f"{self.flat} flat halvings of {halvings}; pass at most as many as there are")
        return [(2, 2, 1)] * self.flat + [(2, 2, 2)] * (halvings - self.flat)

    def of_one_level(self) -> FlowOptions:
        """The options of a network with a single flow at full resolution.

        Raises:
            ValueError: for options of networks with several flows.
        """
        asked = [f.name for f in fields(self) if f.name != "velocity" and getattr(self, f.name) != f.default]
        if asked:
            raise ValueError(f"a network with one flow, at full resolution, does not support {' and '.join(asked)}")
        return self


PUBLISHED = FlowOptions()  # displacements of all levels, added
