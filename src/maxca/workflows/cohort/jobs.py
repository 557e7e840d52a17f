"""What a job of SLURM requests, as text. This module does not import torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from maxca.fields import About, OptionError, options_of, read_options

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/+&|*()-]*")  # one word of a line of sbatch, never two options
INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
WALLTIME = re.compile(r"(\d+-\d{1,2}(:\d{2}){0,2}|\d+(:\d{2}){0,2})")
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE)
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}  # SLURM's
SLURM = "slurm"


@dataclass(frozen=True)
class JobOptions:
    """What each job requests; the defaults of the cluster apply to the rest."""

    partition: Annotated[str | None, About("Partition, as sbatch --partition.")] = None
    account: Annotated[str | None, About("Account, as sbatch --account.")] = None
    qos: Annotated[str | None, About("Quality of service, as sbatch --qos.")] = None
    walltime: Annotated[str | None, About("Time limit, as sbatch --time; by default that of the partition.")] = None
    memory: Annotated[str | None, About("Memory, such as 8GB; by default what its pairs need.")] = None
    cores: Annotated[int | None, About("CPU cores, of which each pair uses --threads.", least=1)] = None
    constraint: Annotated[str | None, About("Features of the node, as sbatch --constraint.")] = None
    reservation: Annotated[str | None, About("Reservation, as sbatch --reservation.")] = None
    gres: Annotated[str | None, About("Generic resources, such as gpu:1, as sbatch --gres.")] = None
    interface: Annotated[str | None, About("Network interface between the jobs and this machine, such as ib0.")] = None

    @property
    def memory_bytes(self) -> int | None:
        """The memory of a job; None for what its pairs need."""
        if self.memory is None:
            return None
        match = MEMORY.fullmatch(self.memory)
        return int(float(match[1]) * UNITS[match[2].upper()]) if match else 0


def read_job(text: str) -> JobOptions:
    """The requests in ``key=value,key=value``; the text may be empty.

    Raises:
        OptionError: of the field ``slurm``, for an unknown key or an invalid value.
    """
    known = [each.name for each in options_of(JobOptions)]
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, _, value = map(str.strip, part.partition("="))
        if key not in known:
            advice = f"no key {key}; choose from {', '.join(known)}, such as partition=short,walltime=02:00:00"
            raise OptionError(SLURM, text, advice)
        if key in given:
            raise OptionError(SLURM, text, f"{key} is given twice; remove one of the two")
        _check(text, key, value)
        given[key] = value
    return read_options(JobOptions, ",".join(f"{key}={value}" for key, value in given.items()))


def _check(text: str, key: str, value: str) -> None:
    forms = {
        "walltime": (WALLTIME, "a time limit as 02:00:00, 1-12:00:00 or a number of minutes"),
        "memory": (MEMORY, "a number with a unit, as 8GB or 1500MB"),
        "cores": (re.compile(r"[1-9]\d{0,4}"), "a whole number of at least 1"),
        "interface": (INTERFACE, "the name of a network interface, as ib0"),
    }
    form, wanted = forms.get(key, (WORD, "a name without spaces"))
    if not form.fullmatch(value):
        raise OptionError(SLURM, text, f"{key}={value} is not valid; give {wanted}")
