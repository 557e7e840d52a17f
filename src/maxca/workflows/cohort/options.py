"""Options of a cohort. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from maxca.fields import About, OptionError, check
from maxca.options import IMAGES, MACHINE, PAIRS, REGIONS
from maxca.workflows.cohort.jobs import JobOptions, read_job

OUTPUT = "Output"
OUTPUTS = ("inverse", "warped", "labels", "field", "compact", "affine")
USUAL = ("inverse", "warped", "labels")


@dataclass(frozen=True)
class CohortOptions:
    """Where the registrations of a cohort run, and which of them."""

    workers: Annotated[
        int | None,
        About(
            "Processes on this machine, each of which registers one pair at a time; by default as many as its cores "
            "and its memory allow. With slurm, jobs.",
            MACHINE,
            "-j",
            least=1,
        ),
    ] = None
    memory_gb: Annotated[
        float | None,
        About("Memory in GB for all workers together; by default what is free.", MACHINE, above=0, unit="GB"),
    ] = None
    scheduler: Annotated[
        str | None,
        About(
            "Address of a running Dask scheduler, such as tcp://127.0.0.1:8786, whose workers register instead. They "
            "need maxca and the same paths. Whoever reaches a scheduler can run programs on its workers: use one that "
            "only trusted users reach.",
            MACHINE,
        ),
    ] = None
    slurm: Annotated[
        str | None,
        About(
            "Register in jobs of SLURM, such as partition=short,walltime=02:00:00; a job that is cancelled or "
            "preempted is submitted again. Keys: partition, account, qos, walltime, memory and cores of a job (by "
            "default what a pair needs), constraint, reservation, gres, interface (of the network). "
            "workers is the number of jobs, by default at most 16.",
            MACHINE,
        ),
    ] = None
    retry: Annotated[
        Literal["failed"] | None, About("failed: register the pairs that failed before once more.", PAIRS)
    ] = None

    save: Annotated[
        str,
        About(
            "What is kept of each pair in addition to transform.h5 and result.json, with commas: inverse, warped, "
            "labels (warped), field (displacement.nii.gz); or none. compact rounds the fields to 1/64 voxel, for about "
            "half the size; affine keeps affine.tfm in place of transform.h5. A report computes an inverse that was "
            "not kept.",
            OUTPUT,
        ),
    ] = ",".join(USUAL)

    def __post_init__(self) -> None:
        check(self)
        _ = self.outputs
        _ = self.job
        for name in ("workers", "memory_gb", "slurm"):
            if getattr(self, name) is not None and self.scheduler is not None:
                raise OptionError(name, getattr(self, name), "the scheduler has its own workers; remove one of the two")
        if self.memory_gb is not None and self.slurm is not None:
            raise OptionError("memory_gb", self.memory_gb, "the memory of a job is set by slurm=memory=8GB")

    @property
    def chosen(self) -> bool:
        """Whether it is said where the registrations run."""
        return any(each is not None for each in (self.workers, self.memory_gb, self.scheduler, self.slurm))

    @property
    def job(self) -> JobOptions | None:
        """What a job of SLURM requests; None without SLURM."""
        return None if self.slurm is None else read_job(self.slurm)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is kept, in a fixed order."""
        words = [word.strip() for word in self.save.split(",")]
        if words != ["none"] and set(words) - set(OUTPUTS):
            raise OptionError("save", self.save, f"choose some of {', '.join(OUTPUTS)} with commas, or none")
        return tuple(name for name in OUTPUTS if name in words)


@dataclass(frozen=True)
class AtlasInputs:
    """The fixed image of all pairs, with its mask, labels, …, instead of columns of the list."""

    fixed: Annotated[
        Any, About("The fixed image of all pairs, such as an atlas; the list then has no column fixed.", IMAGES, "-f")
    ] = None
    fixed_mask: Annotated[Any, About("Its mask: non-zero where the similarity is computed.", REGIONS)] = None
    fixed_exclude: Annotated[Any, About("Its region that the registration ignores.", REGIONS)] = None
    rigid: Annotated[Any, About("Its parts that do not bend: labels, each of which moves rigidly.", REGIONS)] = None
    fixed_labels: Annotated[Any, About("Its labels, to measure Dice.", REGIONS)] = None
    fixed_points: Annotated[Any, About("Its landmarks, to measure the error in mm.", REGIONS)] = None
