"""Start or continue a run from names, folders and options."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maxca.datasets.prepared import NOTHING, Prepared, read_prepared
from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.io.alone import alone_in
from maxca.origins import UnknownName
from maxca.runtime import torch_thread_limit
from maxca.training.config import RunConfig, SegmentationConfig, TrainingConfig, config_from_plain
from maxca.training.loop import Report, train
from maxca.training.options import TrainingOptions
from maxca.training.recipes import RECIPES
from maxca.training.registration import RegistrationTask
from maxca.training.run import Run, make_folder, read_about, start_run
from maxca.training.segmentation import SegmentationTask
from maxca.training.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SAME = 1e-3  # of a spacing: tolerance of the spacing of prepared data


def train_in(
    recipe: str,
    data: str | Path | None,
    folder: str | Path,
    options: TrainingOptions | None = None,
    *,
    resume: bool = False,
    report: Report = lambda _row: None,
    warn: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Train by a recipe.

    Args:
        recipe: a key of ``RECIPES``.
        data: an output folder of ``maxca prepare``; not needed for a recipe with synthetic images.
        folder: of the run.
        options: changes to the recipe, and settings of the machine.
        resume: continue the run in the folder with its configuration; ``steps`` extends it.
        report: called with each row of the log.
        warn: called with warnings.

    Returns:
        The folder.

    Raises:
        MaxcaError: for invalid input.
    """
    options = options or TrainingOptions()
    if recipe not in RECIPES:
        plugins = read_about(folder)["config"].get("plugins", ()) if resume else ()
        raise UnknownName("recipe", recipe, RECIPES).from_plugins(plugins)
    config = resumed_config(folder, options) if resume else replace(RECIPES[recipe](), **options.changes())
    if data is None and config.needs_scans:
        raise MaxcaError(f"the recipe {recipe} needs data=FOLDER, an output folder of maxca prepare")
    prepared = NOTHING if data is None else read_prepared(data)
    check_spacing(config, prepared)
    task = task_of(config, prepared)
    for line in task.warnings():
        warn(f"{folder}: {line}")
    weights = None if options.init is None else task.weights(options.init)
    fabric = _fabric(options, config)
    run = Run(Path(folder))
    with ExitStack() as stack:
        stack.enter_context(torch_thread_limit(options.threads))
        if fabric.is_global_zero:
            stack.enter_context(alone_in(make_folder(run.folder), "another maxca train"))
            run = start_run(folder, config, prepared, resume=resume)
            held = run.checkpoint(torch.device("cpu"))
            run.trim_log(0 if held is None else int(held["step"]))
        fabric.barrier()
        train(config, task, run, fabric, weights=weights, workers=options.workers, report=report)
    return run.folder


def task_of(config: RunConfig, data: Prepared) -> Task:
    """What a configuration trains.

    Raises:
        MaxcaError: if the data does not suit it.
        TypeError: for another class of configurations.
    """
    if isinstance(config, SegmentationConfig):
        return SegmentationTask(config, data)
    if isinstance(config, TrainingConfig):
        return RegistrationTask(config, data)
    raise TypeError(f"a recipe returns a TrainingConfig or a SegmentationConfig, received {type(config).__name__}")


def resumed_config(folder: str | Path, options: TrainingOptions) -> RunConfig:
    """The configuration of a resumed run, possibly with more steps.

    Raises:
        OptionError: for options that differ from those of the run, or fewer steps.
    """
    config = config_from_plain(read_about(folder)["config"])
    for name, value in options.changes().items():
        held = getattr(config, name)
        if name == "steps" and value < held:
            raise OptionError(name, value, f"{folder} was started with {held} steps, which can only be extended")
        if name != "steps" and value != held:
            raise OptionError(
                name, value, f"{folder} was started with {held}, which a resumed run keeps; remove the option"
            )
    return config if options.steps is None else replace(config, steps=options.steps)


def _fabric(options: TrainingOptions, config: RunConfig) -> Fabric:
    """Launch Lightning Fabric.

    Raises:
        MaxcaError: if the package is missing.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MaxcaError("training needs additional dependencies: pip install 'maxca[train]'") from error
    fabric = Fabric(
        accelerator=options.device,
        devices=options.devices,
        strategy="ddp" if options.devices > 1 else "auto",
        precision=config.precision,
    )
    fabric.launch()
    return fabric


def check_spacing(config: RunConfig, data: Prepared) -> None:
    """Check that the spacing of the data is that of the recipe.

    Raises:
        MaxcaError: if the spacing differs.
    """
    for scan in data.scans:
        pairs = zip(config.spacing, scan.spacing, strict=True)
        if any(mm is not None and abs(mm - has) > SAME * mm for mm, has in pairs):
            raise MaxcaError(
                f"{data.folder}: {scan.name} was prepared at {scan.spacing} mm, but the recipe {config.recipe} "
                f"requires {config.spacing}"
            )
