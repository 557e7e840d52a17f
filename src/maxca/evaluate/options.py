"""Options of an evaluation. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from maxca.fields import About, OptionError, check
from maxca.options import MACHINE, PAIRS, MatrixConvention

COMPARED = "What is compared"


@dataclass(frozen=True)
class EvaluationOptions:
    """Selection of pairs, threads and jobs of an evaluation."""

    name: Annotated[
        str | None, About("Name of this set of pairs in the table; by default that of the list's folder.", PAIRS)
    ] = None
    group: Annotated[str | None, About("Only pairs of this group.", PAIRS)] = None
    pair: Annotated[
        tuple[int, ...], About("Only the pair of this number, from 0; may be repeated.", PAIRS, least=0)
    ] = ()
    limit: Annotated[int | None, About("Only the first pairs, this many.", PAIRS, least=1)] = None
    threads: Annotated[int, About("CPU threads of each registration.", MACHINE, least=1)] = 2
    jobs: Annotated[
        int,
        About(
            "Registrations that run at once; above 1, the times say little about a single registration.",
            MACHINE,
            "-j",
            least=1,
        ),
    ] = 1

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ComparisonOptions:
    """What an evaluation compares, as the command line writes it."""

    methods: Annotated[
        str,
        About(
            "Of maxca-fast, maxca-balanced, maxca-accurate, greedy, syn, elastix and unmoved, with commas; "
            "maxca-balanced+auto uses a model, greedy@2 smooths by 2 mm, and maxca:effort=fast,similarity=mi takes "
            "every option of maxca register.",
            COMPARED,
        ),
    ] = "maxca-balanced"
    model: Annotated[
        tuple[str, ...], About("Ours also with this model, as for maxca register; may be repeated.", COMPARED)
    ] = ()
    smoothness: Annotated[
        str | None,
        About(
            "Each method at each of these mm: 1,2,4. A method that has its own, such as elastix@10, keeps it.", COMPARED
        ),
    ] = None
    transforms: Annotated[
        tuple[str, ...],
        About(
            "Also the transforms in this folder, named by the number of the pair from 0 (7.h5) or by its images "
            "(FIXED_MOVING.nii.gz): ITK's, ANTs', greedy's, or voxel displacements as in Learn2Reg; may be repeated.",
            COMPARED,
        ),
    ] = ()
    matrix_convention: Annotated[
        MatrixConvention | None,
        About("What a given bare 4x4 matrix means. ras: fixed to moving, RAS mm. fsl: FLIRT's -omat.", COMPARED),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        _ = self.smoothness_mm

    @property
    def smoothness_mm(self) -> list[float]:
        """The numbers."""
        try:
            return [float(word) for word in (self.smoothness or "").split(",") if word.strip()]
        except ValueError as error:
            raise OptionError("smoothness", self.smoothness, "give millimetres with commas, such as 1,2,4") from error
