"""The plan of a cohort, ``plan.json``: every pair with its inputs, their hashes, and what became of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path
from maxca.io.records import encode, read_json
from maxca.options import RegistrationOptions

PLAN = "plan.json"
MEANT = "the plan of a cohort; choose another folder"
PairState = Literal["done", "failed", "pending"]
STATES: tuple[PairState, ...] = get_args(PairState)
DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(RegistrationOptions)}
LOCATED = ("model", "initial_transform", "label_table")  # may be files; their hashes count, not their paths


@dataclass(frozen=True)
class InputFile:
    """A file that a registration reads.

    Args:
        path: absolute.
        sha256: of its content; empty if it cannot be read.
        size: bytes, of all its files.
        modified: time of the last change in ns; with the same size and time, the file is not read again.
    """

    path: str
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    size: int = -1
    modified: int = -1


@dataclass(frozen=True)
class PlannedPair:
    """One pair.

    Args:
        name: of its output folder.
        inputs: by role: ``"fixed"``, ``"moving_labels"``, ``"model"``, ….
        fingerprint: of the content of the inputs and of the options: equal fingerprints, equal results.
        group: as in the list.
        memory_gb: an upper estimate of what its registration needs.
        state: what became of it.
        error: why it failed.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=200)]
    inputs: dict[str, InputFile]
    fingerprint: str
    group: str = ""
    memory_gb: float = 0.0
    state: PairState = "pending"
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """The pairs of a cohort.

    Args:
        maxca: version.
        versions: of Python and the packages that affect the results.
        options: of all registrations, as given.
        save: what is kept of each pair, see ``CohortOptions``.
        pairs: in the order of the list.
    """

    maxca: str
    versions: dict[str, str]
    options: dict[str, Any]
    save: list[str] = field(default_factory=list)
    pairs: list[PlannedPair] = field(default_factory=list)

    def count(self) -> dict[PairState, int]:
        """The number of pairs in each state."""
        counted = Counter(pair.state for pair in self.pairs)
        return {state: counted[state] for state in STATES}

    def write(self, folder: Path) -> None:
        """Write ``plan.json``, atomically."""
        with atomic_path(folder / PLAN) as unfinished:
            unfinished.write_text(encode(self), encoding="utf-8")


def read_plan(folder: str | Path) -> Plan:
    """Read the plan in the folder of a cohort.

    Raises:
        MaxcaError: for a folder without one, or an invalid one.
    """
    folder = Path(folder)
    if not os.path.lexists(folder / PLAN):
        raise MaxcaError(f"{folder}: contains no {PLAN}; pass the output folder of maxca cohort")
    plan = read_json(folder / PLAN, Plan, MEANT)
    names = Counter(pair.name.lower() for pair in plan.pairs)
    if twice := next((name for name, count in names.items() if count > 1), ""):
        raise MaxcaError(f"{folder / PLAN}: two pairs have the folder {twice}; choose another folder")
    return plan


def fingerprint(inputs: Mapping[str, InputFile], options: Mapping[str, Any], save: Sequence[str]) -> str:
    """The hash of all that determines an output folder on one machine: contents of inputs, options, what is kept.

    Options at their default do not count, so that a new option leaves finished cohorts as they are.
    """
    given = {
        name: "a file" if name in inputs and name in LOCATED else value
        for name, value in options.items()
        if value not in ([], DEFAULTS.get(name))
    }
    hashes = {role: file.sha256 for role, file in inputs.items()}
    content = {"inputs": hashes, "options": given, "save": list(save)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
