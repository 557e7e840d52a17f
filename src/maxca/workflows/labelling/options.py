"""Options of multi-atlas labelling. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from maxca.fields import About, OptionError, check, words
from maxca.options import EffortName

FusionName = Literal["joint", "local", "vote"]
ATLASES = "Atlases"
ALL = "all"


@dataclass(frozen=True)
class LabellingOptions:
    """How a scan is labelled by atlases."""

    atlases: Annotated[
        Any,
        About(
            "Labelled scans that are registered to the scan, and whose labels are fused: a folder (BIDS, imagesTr and "
            "labelsTr, or files NAME and NAME_labels or NAME_dseg), or a CSV list with the columns image and labels.",
            ATLASES,
            in_python="Or a sequence of ``maxca.io.pairs.Scan``.",
        ),
    ] = None
    nearest: Annotated[
        int | None,
        About(
            "Only this many of the atlases: those most similar to the scan after the affine. By default all.",
            ATLASES,
            least=1,
        ),
    ] = None
    fusion: Annotated[
        FusionName,
        About(
            "How the labels of the atlases are fused. joint: joint label fusion, by local weights that take account "
            "of errors that atlases have in common; local: weighted by the local correlation with the scan; vote: "
            "equal weights.",
            ATLASES,
        ),
    ] = "joint"
    probabilities: Annotated[
        str,
        About(
            "Labels of which the map of probabilities is also written, with commas, such as 17,53; all; or none.",
            ATLASES,
        ),
    ] = "none"
    label_table: Annotated[
        Any, About("Names of the labels, for volumes.tsv: a table as for maxca register.", ATLASES)
    ] = None
    effort: Annotated[EffortName, About("Trade-off between time and accuracy of the registrations.", ATLASES)] = "fast"

    def __post_init__(self) -> None:
        check(self)
        _ = self.wanted

    @property
    def wanted(self) -> tuple[int, ...] | None:
        """The labels whose probabilities are written; None for all."""
        given = words(self.probabilities)
        if given == [ALL]:
            return None
        if given == ["none"]:
            return ()
        if not all(word.isascii() and word.isdecimal() for word in given):
            raise OptionError("probabilities", self.probabilities, "give labels with commas: 17,53; all, or none")
        return tuple(int(word) for word in given)
