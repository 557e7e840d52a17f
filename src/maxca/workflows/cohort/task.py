"""What a worker does: one pair from its files to its output folder, which is complete or absent."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from maxca.errors import MaxcaError, one_line
from maxca.io.atomic import output_folder
from maxca.io.records import encode, read_json
from maxca.options import RegistrationOptions
from maxca.runtime import WAITING, environment
from maxca.version import installed_version
from maxca.workflows.cohort.options import USUAL
from maxca.workflows.cohort.plan import InputFile, PairState

if TYPE_CHECKING:
    from maxca.geometry import Chain
    from maxca.models.kept import KeptModels
    from maxca.registration.result import Result

TASK, AFFINE = "task.json", "affine.tfm"
PER_VOXEL = 64  # of compact fields
MEANT = "the task of a cohort; run maxca cohort again"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # of an output: the next pair would fail as well


@dataclass(frozen=True)
class Task:
    """A registration to compute.

    Args:
        name: of the pair.
        folder: of its output, absolute.
        inputs: by role.
        options: of the registration.
        fingerprint: of inputs and options, stored with the result.
        outputs: of ``CohortOptions``.
        plugins: to load before.
        maxca: the version that planned it.
        finish: called with the complete folder before it appears; what it raises is ignored.
    """

    name: str
    folder: str
    inputs: Mapping[str, InputFile]
    options: RegistrationOptions
    fingerprint: str
    outputs: tuple[str, ...] = USUAL
    plugins: tuple[str, ...] = ()
    maxca: str = ""
    finish: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class StoredTask:
    """What ``task.json`` next to a result says of it."""

    fingerprint: str


class Outcome(NamedTuple):
    """What became of a task.

    Args:
        name: of the pair.
        state: ``"pending"`` if nothing can be written.
        error: why it failed.
    """

    name: str
    state: PairState
    error: str | None = None


def register_task(task: Task) -> Outcome:
    """Register a pair, unless its output folder already has this result.

    An output of other inputs or options is replaced, or removed if the registration fails.
    """
    folder = Path(task.folder)
    try:
        if stored_fingerprint(folder) != task.fingerprint:
            _register(task, folder)
        return Outcome(task.name, "done")
    except (MaxcaError, OSError) as error:
        if stored_fingerprint(folder) == task.fingerprint:  # another worker was faster
            return Outcome(task.name, "done")
        if _number(error) in NO_ROOM:
            return Outcome(task.name, "pending", str(error))
        said = str(error)
    except MemoryError:
        said = "out of memory; use fewer workers, or effort=fast"
    except Exception as error:  # a fault of one pair must not end the others
        said = f"{type(error).__name__}: {one_line(str(error), 300)}"
        if "can't allocate memory" in said or type(error).__name__ == "OutOfMemoryError":
            said = "out of memory; use fewer workers, or effort=fast"
    _remove_outdated(folder)
    return Outcome(task.name, "failed", said)


def stored_fingerprint(folder: Path) -> str:
    """The fingerprint of the result in an output folder; empty if there is no result of a cohort."""
    with suppress(MaxcaError):
        return read_json(folder / TASK, StoredTask, MEANT).fingerprint
    return ""


def _register(task: Task, folder: Path) -> None:
    if task.maxca != installed_version():
        raise MaxcaError(
            f"the worker has maxca {installed_version()}, but the cohort was started by {task.maxca}; install the same"
        )
    with environment(**WAITING):  # read when torch is loaded
        plugins = import_module("maxca.plugins")
        for source in task.plugins:
            plugins.load(source)
        from maxca.registration.inputs import SideInputs, source_names
        from maxca.registration.register import register
    fixed, moving = (
        SideInputs(**{role: _path(task, name) for role, name in source_names(side).items()} | _channels(task, side))
        for side in ("fixed", "moving")
    )
    options = task.options
    if "initial_transform" in task.inputs:
        options = replace(options, initial_transform=_path(task, "initial_transform"))
    with output_folder(folder, overwrite=True) as place:
        result = register(fixed, moving, options, keep=_models())
        for role, read in result.record.inputs.items():
            if role in task.inputs and read.sha256 != task.inputs[role].sha256:
                raise MaxcaError(f"{read.path}: has changed since the cohort was planned; run the same command again")
        _write(result, task, place)
        (place / TASK).write_text(encode(StoredTask(task.fingerprint)), encoding="utf-8")


def _write(result: Result, task: Task, place: Path) -> None:
    """Write what is kept of a result into an existing folder, and finish it."""
    from maxca.geometry.transforms import Affine
    from maxca.io.transforms import write_transform
    from maxca.registration.record import WARPED
    from maxca.registration.result import INVERSE, LABELS, TRANSFORM

    affine = replace(result.chain, steps=tuple(step for step in result.chain.steps if isinstance(step, Affine)))
    if "affine" in task.outputs and len(result.chain.steps) - len(affine.steps) > 1:
        raise MaxcaError("the initial transform is not affine, so that save=affine would lose it; remove affine")
    if "compact" in task.outputs:
        result = replace(result, chain=_compact(result.chain), inverse=_compact(result.inverse))
    files = {"inverse": INVERSE, "warped": WARPED, "labels": LABELS}
    without = [file for name, file in files.items() if name not in task.outputs]
    result.write_into(place, save_field="field" in task.outputs, without=without)
    if task.finish is not None:
        with suppress(Exception):  # such as a page that cannot be drawn: the registration itself has succeeded
            task.finish(place)
    if "affine" in task.outputs:
        write_transform(affine, place / AFFINE)
        (place / TRANSFORM).unlink()


def _compact(chain: Chain) -> Chain:
    from maxca.geometry.transforms import DenseField

    steps = (step.rounded(PER_VOXEL) if isinstance(step, DenseField) else step for step in chain.steps)
    return replace(chain, steps=tuple(steps))


@cache
def _models() -> KeptModels:
    """The models of this worker, which are loaded once."""
    from maxca.models.kept import KeptModels

    return KeptModels()


def _channels(task: Task, side: str) -> dict[str, Any]:
    """The images of a side with several channels; empty for a single image."""
    names = itertools.takewhile(lambda name: name in task.inputs, (f"{side}_{n}" for n in itertools.count(2)))
    further = [task.inputs[name].path for name in names]
    return {"image": [task.inputs[side].path, *further]} if further else {}


def _path(task: Task, role: str) -> str | None:
    return task.inputs[role].path if role in task.inputs else None


def _number(error: BaseException | None) -> int | None:
    """The system's number of an error, or of the error that it explains."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__
    return None


def _remove_outdated(folder: Path) -> None:
    """Remove a result of other inputs or options, so that nobody takes it for that of the failed pair."""
    if os.path.lexists(folder / TASK):
        shutil.rmtree(folder, ignore_errors=True)
