"""Options of the BIDS App. This module does not import torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from maxca.fields import About, OptionError, about, check
from maxca.options import MACHINE
from maxca.workflows.cohort.options import CohortOptions

SCANS = "Scans"
TEMPLATE = "Template"
LABEL = re.compile(r"[A-Za-z0-9]+", re.ASCII)


@dataclass(frozen=True)
class BidsOptions:
    """Which scans are registered, to what, and where."""

    participant_label: Annotated[
        tuple[str, ...],
        About("Participants, with or without sub-; several may follow one another. By default all.", SCANS),
    ] = ()
    session_label: Annotated[
        tuple[str, ...], About("Sessions, with or without ses-; several may follow one another. By default all.", SCANS)
    ] = ()
    suffix: Annotated[str, About("The scans: T1w, or another suffix of 3-D images such as T2w or FLAIR.", SCANS)] = (
        "T1w"
    )
    template: Annotated[
        str,
        About(
            "The template: a name of TemplateFlow, which is downloaded unless it is in its cache (TEMPLATEFLOW_HOME), "
            "or an image file, which is called by its name.",
            TEMPLATE,
        ),
    ] = "MNI152NLin2009cAsym"
    resolution: Annotated[
        int, About("The resolution of a template of TemplateFlow, its res entity.", TEMPLATE, least=1)
    ] = 1
    skull_stripped: Annotated[
        bool, About("The scans show the brain alone: use the template's brain (desc-brain).", TEMPLATE)
    ] = False
    n_cpus: Annotated[
        int | None,
        About("Registrations at a time; by default as many as the cores and the memory allow.", MACHINE, least=1),
    ] = None
    mem_mb: Annotated[
        int | None,
        About("Memory in MB that all registrations together may use; by default what is free.", MACHINE, least=1),
    ] = None
    scheduler: Annotated[str | None, about(CohortOptions, "scheduler")] = None
    work_dir: Annotated[
        Path | None,
        About(
            "Folder for intermediate results, from which an interrupted run is resumed; by default next to the output, "
            "OUT_work.",
            MACHINE,
            "-w",
        ),
    ] = None

    def __post_init__(self) -> None:
        check(self)
        for name, prefix in (("participant_label", "sub-"), ("session_label", "ses-")):
            for value in getattr(self, name):
                if not LABEL.fullmatch(value.removeprefix(prefix)):
                    raise OptionError(name, value, "a label consists of letters and digits")
        for name in ("n_cpus", "mem_mb"):
            if getattr(self, name) is not None and self.scheduler is not None:
                raise OptionError(name, getattr(self, name), "the scheduler has its own workers; remove one of the two")
        if not LABEL.fullmatch(self.suffix):
            raise OptionError("suffix", self.suffix, "a suffix consists of letters and digits, such as T1w")

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels without ``sub-``."""
        return tuple(label.removeprefix("sub-") for label in self.participant_label)

    @property
    def sessions(self) -> tuple[str, ...]:
        """Labels without ``ses-``."""
        return tuple(label.removeprefix("ses-") for label in self.session_label)
