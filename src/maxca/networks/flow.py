"""How a network makes one flow of what its levels find: options of every network, given as one object."""

from __future__ import annotations

from dataclasses import dataclass, fields

from maxca.networks.parts import Factors


@dataclass(frozen=True)
class FlowOptions:
    """How the flows of the levels become the flow of a pair.

    Args:
        finest: the finest level that is decoded, 0 for full resolution, 1 for half of it, …; its flow is interpolated
            to the grid of the images. Most of the work is at full resolution.
        velocity: integrate the flow, at full resolution, as a stationary velocity, which makes it a diffeomorphism.
        composed: compose the flows of the levels, where the published networks add them.
        symmetric: half the difference of the velocities of the two directions: exchanging the images inverts the
            prediction, whatever the weights are. Only the decoder works twice.
        flat: the number of halvings, finest first, that leave the third axis as it is: for stacks of a few thick
            slices.

    Raises:
        ValueError: for a field of another type, or a flow that should be symmetric without being a velocity.
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
        """How many voxels along each axis become one from each level to the next, finest first.

        Args:
            levels: of the encoder.

        Raises:
            ValueError: when no level is left to decode, or there are fewer halvings than flat ones.
        """
        if not 0 <= self.finest < levels:
            raise ValueError(f"{levels} levels have no level {self.finest} to decode from")
        halvings = levels - 1
        if not 0 <= self.flat <= halvings:
            raise ValueError(f"{self.flat} flat halvings of {halvings}; give as many as there are, or fewer")
        return [(2, 2, 1)] * self.flat + [(2, 2, 2)] * (halvings - self.flat)

    def of_one_level(self) -> FlowOptions:
        """Itself, for a network that finds a single flow at full resolution.

        Raises:
            ValueError: when it asks for what only networks of several flows can do.
        """
        asked = [f.name for f in fields(self) if f.name != "velocity" and getattr(self, f.name) != f.default]
        if asked:
            raise ValueError(f"a network with one flow, at full resolution, takes no {' and no '.join(asked)}")
        return self


PUBLISHED = FlowOptions()  # displacements of all levels, added
