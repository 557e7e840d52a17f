"""From a list of pairs to a plan: names, hashes, estimates of memory, and what an earlier run has left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from maxca.engine.settings import settings_for
from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.io.companions import files_of
from maxca.io.digest import sha256
from maxca.io.pairs import Pair
from maxca.models.zoo import shipped
from maxca.options import MODELS, RegistrationOptions
from maxca.registration.pair import memory_needed
from maxca.registration.provenance import versions
from maxca.registration.resampling import grids_of
from maxca.version import installed_version
from maxca.workflows.cohort.naming import key_of, name_pairs
from maxca.workflows.cohort.options import USUAL
from maxca.workflows.cohort.plan import LOCATED, InputFile, Plan, PlannedPair, fingerprint

READERS = 4  # threads that hash: more do not make a disc faster


def make_plan(
    pairs: Sequence[Pair],
    options: RegistrationOptions,
    save: Sequence[str] = USUAL,
    previous: Plan | None = None,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> Plan:
    """The plan for pairs, of which none is done yet.

    Args:
        pairs: files may be missing; such a pair has failed.
        options: of all registrations.
        save: what is kept of each pair, see ``CohortOptions``.
        previous: an earlier plan, whose names, and hashes of unchanged files, are used again.
        progress: called with the completed fraction of the files.

    Raises:
        MaxcaError: for a pair that is listed twice, a missing model or initial transform, or objects in place of files.
    """
    pairs = [_absolute(pair) for pair in pairs]
    _check_unique(pairs)
    shared, given = _located(options)
    files = {path: None for pair in pairs for path in pair.files.values()}
    known = {file.path: file for pair in (previous.pairs if previous else ()) for file in pair.inputs.values()}
    described = _described([*files, *shared.values()], known, progress)
    names = name_pairs(pairs, _names(previous))
    planned = []
    for name, pair in zip(names, pairs, strict=True):
        roles = pair.files
        inputs = {role: described[path][0] for role, path in ({**roles, **shared} | roles).items()}
        error = next((f"{role}: {said}" for role, path in roles.items() if (said := described[path][1])), None)
        planned.append(
            PlannedPair(
                name,
                inputs,
                fingerprint(inputs, given, save),
                pair.group,
                0.0 if error else memory_of(pair, options),
                "failed" if error else "pending",
                error,
            )
        )
    return Plan(installed_version(), versions(), given, list(save), planned)


def _absolute(pair: Pair) -> Pair:
    paths = {role: Path(os.path.abspath(path)) for role, path in pair.files.items()}
    further = tuple((paths.pop(f"fixed_{n}"), paths.pop(f"moving_{n}")) for n in range(2, 2 + len(pair.further)))
    return replace(pair, **paths, further=further)  # type: ignore[arg-type]


def _check_unique(pairs: Sequence[Pair]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, pair in enumerate(pairs, start=1):
        first = seen.setdefault(key_of(pair), number)
        if first != number:
            raise MaxcaError(
                f"pair {number} has the images of pair {first}, {pair.fixed} and {pair.moving}; remove one of the two"
            )


def _located(options: RegistrationOptions) -> tuple[dict[str, Path], dict[str, Any]]:
    """The files among the options, by role, and the options in plain form, with absolute paths."""
    given = {each.name: getattr(options, each.name) for each in fields(options)} | {"guide": list(options.guide)}
    given["channel_weights"] = list(options.channel_weights)
    for name in LOCATED:
        if given[name] is not None and not isinstance(given[name], str | Path):
            raise OptionError(name, given[name], "a cohort takes the name of a file, which its workers read")
    words = {"model": (*MODELS, *shipped()), "initial_transform": ("header", "center")}
    found = {
        name: Path(os.path.abspath(given[name]))
        for name in LOCATED
        if given[name] not in (None, *words.get(name, ())) and not str(given[name]).startswith("hf://")
    }
    for name, path in found.items():
        if not path.exists():
            raise OptionError(name, given[name], "no such file; check the path")
    return found, given | {role: str(path) for role, path in found.items()}


def _names(previous: Plan | None) -> dict[tuple[str, str], str]:
    return {
        (pair.inputs["fixed"].path, pair.inputs["moving"].path): pair.name
        for pair in (previous.pairs if previous else ())
        if {"fixed", "moving"} <= pair.inputs.keys()
    }


def _described(
    paths: Iterable[Path], known: Mapping[str, InputFile], progress: Callable[[str, float], None]
) -> dict[Path, tuple[InputFile, str]]:
    """Each file with its hash, and why it cannot be read, if so."""
    paths = list(paths)
    described = {}
    with ThreadPoolExecutor(READERS) as pool:
        each = pool.map(lambda path: _describe(path, known.get(str(path))), paths)
        for number, (path, found) in enumerate(zip(paths, each, strict=True), start=1):
            described[path] = found
            progress("reading inputs", number / len(paths))
    return described


def _describe(path: Path, known: InputFile | None) -> tuple[InputFile, str]:
    try:
        parts = [each for each in path.iterdir() if each.is_file()] if path.is_dir() else files_of(path)
        status = [each.stat() for each in parts]
        size, modified = sum(each.st_size for each in status), max((each.st_mtime_ns for each in status), default=0)
        if known is not None and known.sha256 and (known.size, known.modified) == (size, modified):
            return known, ""
        return InputFile(str(path), sha256(path), size, modified), ""
    except MaxcaError as error:
        return InputFile(str(path)), str(error)
    except OSError as error:
        return InputFile(str(path)), f"{path}: {error.strerror or error}"


def memory_of(pair: Pair, options: RegistrationOptions) -> float:
    """At most what the registration needs, in GB; 0 for images whose registration will report an error."""
    try:
        grids = [grid for both in ((pair.fixed, pair.moving), *pair.further) for grid in grids_of(*both) or ()]
    except MaxcaError:
        return 0.0
    finest = settings_for(grids[0], options.effort).levels[-1].voxels(grids[0])
    return round(memory_needed(finest, *grids), 3)
