"""The folder of a training run: configuration, data, code, log, checkpoints, and trained networks."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import torch
from msgspec import Meta

from maxca.datasets.prepared import Prepared
from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path
from maxca.io.records import fitted, read_json, read_text
from maxca.io.regular import check_regular
from maxca.origins import UnknownName
from maxca.training.config import RunConfig, config_from_plain, kind_of
from maxca.version import installed_version

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MEANT = "the record of a run; start it again in another folder"
ABOUT, LOG, CHECKPOINT = "run.json", "log.csv", "checkpoint.pt"
LOG_COLUMNS = {
    "step": "steps done",
    "loss": "the weighted sum of the terms, of the last step",
    "image": "negative similarity of fixed and warped image, times its weight",
    "diffusion": "mean squared gradient of the flow, times its weight",
    "bending": "bending energy of the flow, times its weight",
    "folding": "folded fraction of the volume, times its weight",
    "overlap": "1 minus the Dice of the labels, times its weight",
    "segmentation": "loss of the auxiliary segmentation heads, times its weight",
    "entropy": "cross-entropy of a segmentation network",
    "misses": "1 minus the soft Dice of a segmentation network",
    "consistency": "mean squared round-trip error of both directions in voxels, times its weight",
    "rate": "learning rate",
    "gradient": "norm of the gradient before clipping",
    "seconds_per_step": "mean since the start or the last resumption",
    "alike": "similarity on the validation pairs",
    "ndv": "non-diffeomorphic volume on the validation pairs, %",
    "gain": "fraction of 1 minus the similarity that is removed in nine of ten validation pairs",
    "dice_before": "Dice of the validation pairs before registration",
    "dice": "Dice of the validation pairs, labels warped by nearest neighbour; or of the segmented validation scans",
    "hd95": "95th percentile of the surface distances of the validation pairs, mm",
    "confidence": "smallest mean probability of the labels of a segmented validation scan",
    "score": "Dice, or the similarity without labels, minus a tenth of ndv; the best network has the highest",
}


class RunDescription(TypedDict):
    """``run.json``."""

    config: dict[str, Any]
    data: str


class CheckpointState(TypedDict):
    """The parts of a checkpoint other than tensors."""

    step: Annotated[int, Meta(ge=0)]
    best: float


@dataclass(frozen=True)
class Run:
    """A folder with ``run.json``, ``log.csv``, ``checkpoint.pt``, ``last.safetensors`` and ``best.safetensors``.

    A segmentation network also leaves the Dice of each label, in ``last.tsv`` and ``best.tsv``.
    """

    folder: Path

    def save_checkpoint(self, held: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        with atomic_path(self.folder / CHECKPOINT) as unfinished:
            torch.save(dict(held), unfinished)

    def checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The last checkpoint, or None; nothing in the file is executed.

        Raises:
            MaxcaError: if the file is not a valid checkpoint.
        """
        path = self.folder / CHECKPOINT
        if not os.path.lexists(path):
            return None
        check_regular(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # any error of an invalid file is reported in one line
                held = torch.load(path, map_location=device, weights_only=True)
            return fitted(held, dict[str, Any], path, MEANT) | dict(fitted(held, CheckpointState, path, MEANT))
        except MaxcaError:
            raise
        except Exception as error:
            raise MaxcaError(f"{path}: not a checkpoint: {' '.join(str(error).split())[:200]}") from error

    def model(self, name: str) -> Path:
        """The file of a trained network, ``"last"`` or ``"best"``."""
        return self.folder / f"{name}.safetensors"

    def log(self, row: Mapping[str, float]) -> None:
        """Add a row to the log; a new column rewrites the file."""
        path = self.folder / LOG
        rows = read_log(path)
        known = list(rows[0]) if rows else []
        if rows and set(row) <= set(known):
            with path.open("a", newline="") as file:
                csv.DictWriter(file, known).writerow(row)
            return
        write_log(path, [*rows, {name: str(value) for name, value in row.items()}])

    def events(self, step: int) -> SummaryWriter:
        """A TensorBoard writer that replaces entries from ``step`` on."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder), purge_step=step)

    def trim_log(self, step: int) -> None:
        """Remove the rows after a step, which will be computed again."""
        path = self.folder / LOG
        if not os.path.lexists(path):
            return
        try:
            write_log(path, [row for row in read_log(path) if int(float(row["step"])) <= step])
        except (KeyError, ValueError, OverflowError, csv.Error) as error:
            raise MaxcaError(
                f"{path}: not the log of a run, or damaged; move it away to continue without it"
            ) from error


def start_run(folder: str | Path, config: RunConfig, data: Prepared, *, resume: bool) -> Run:
    """Create the folder of a run, or open one to resume.

    Raises:
        MaxcaError: if there is a run and ``resume`` is not set, or if it was started with another configuration or
            other data.
    """
    run = Run(Path(folder))
    about = {"maxca": installed_version(), "config": config.as_plain(), "data": data.sha256}
    path = run.folder / ABOUT
    if path.is_file():
        if not resume:
            raise MaxcaError(f"{folder} contains a run; pass resume=True to continue it, or choose another folder")
        held = read_about(run.folder)
        before, now = (config_from_plain(json.loads(json.dumps(one["config"]))) for one in (held, about))
        if replace(before, steps=now.steps) != now:
            raise MaxcaError(f"{folder} was started with another configuration; see {path}")
        if held["data"] != data.sha256:
            raise MaxcaError(f"{folder} was started with other data than {data.folder}")
        if before == now:
            return run
    make_folder(run.folder)
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return run


def make_folder(folder: Path) -> Path:
    """The folder, created with its parents if necessary.

    Raises:
        MaxcaError: if that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MaxcaError(f"{folder}: cannot create this folder: {error.strerror}; choose another") from error
    return folder


def read_about(folder: str | Path) -> dict[str, Any]:
    """The content of ``run.json``.

    Raises:
        MaxcaError: if it is invalid.
    """
    path = Path(folder) / ABOUT
    about = read_json(path, RunDescription, MEANT)
    config = fitted(about["config"], kind_of(about["config"]), path, MEANT)
    for name in ("steps", "batch", "accumulate", "validate", "save"):
        if getattr(config, name) < 1:
            raise MaxcaError(f"{path}: `config.{name}` is {getattr(config, name)}, it must be at least 1; correct it")
    try:
        config_from_plain(about["config"])
    except UnknownName as error:
        raise MaxcaError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaxcaError(f"{path}: not the record of a run: {error}; start it again in another folder") from error
    return dict(about)


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a log as text, without a truncated last line."""
    if not path.is_file():
        return []
    with io.StringIO(read_text(path).decode("utf-8"), newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]


def write_log(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a log with the columns of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
