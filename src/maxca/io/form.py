"""Header fields other than the grid that an output copies from its reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """The parts of a header that define the position of an image, besides its grid.

    Args:
        dimension: 2 for a file of two dimensions; a file of one slice has 3.
        unit: of length in a NIfTI file: ``"mm"``, ``"micron"``, ``"meter"`` or ``"unknown"``, which is interpreted as
            mm.
        sform: NIfTI's code of the sform, 1 to 4.
        qform: NIfTI's code of the qform, 1 to 4.
    """

    dimension: int = 3
    unit: str = "mm"
    sform: int = 1
    qform: int = 1
