"""Options of a training run. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from maxca.fields import About, check
from maxca.options import MACHINE, DeviceName

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
START = "Instead of the recipe"


@dataclass(frozen=True)
class TrainingOptions:
    """What may differ from a recipe, and what of the machine a training run uses."""

    init: Annotated[
        Any, About("Start from a model, a file or a bundled one (maxca models list), instead of random weights.", START)
    ] = None
    steps: Annotated[
        int | None,
        About("Steps in all, instead of those of the recipe; with --resume, extends the run.", START, least=1),
    ] = None
    seed: Annotated[int | None, About("Random seed, instead of that of the recipe.", START)] = None
    batch: Annotated[
        int | None,
        About("Pairs, or scans, in a step, over all processes, instead of those of the recipe.", START, least=1),
    ] = None
    accumulate: Annotated[
        int | None, About("Parts in which a process computes its share of a batch, to save memory.", START, least=1)
    ] = None
    precision: Annotated[Precision | None, About("Instead of the precision of the recipe.", START)] = None
    device: Annotated[DeviceName, About("auto uses the GPU if there is one.", MACHINE)] = "auto"
    devices: Annotated[int, About("GPUs, or processes on a CPU.", MACHINE, least=1)] = 1
    workers: Annotated[int, About("Processes that prepare the samples.", MACHINE, least=0)] = 0
    threads: Annotated[int | None, About("CPU threads of each process.", MACHINE, least=1)] = None

    def __post_init__(self) -> None:
        check(self)

    def changes(self) -> dict[str, Any]:
        """The fields of a configuration that are given here."""
        names = ("steps", "seed", "batch", "accumulate", "precision")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
