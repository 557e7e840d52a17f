"""Starting a run from what a user gives: names, folders, devices."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxca.datasets.prepared import NOTHING, Prepared, read_prepared
from maxca.errors import MaxcaError
from maxca.io.alone import alone_in
from maxca.models.load import load_model
from maxca.models.zoo import find_model
from maxca.origins import UnknownName
from maxca.runtime import torch_thread_limit
from maxca.training.config import Precision, TrainingConfig, config_from_plain
from maxca.training.loop import Report, train
from maxca.training.recipes import RECIPES
from maxca.training.run import Run, make_folder, read_about, start_run

SAME = 1e-3  # of a spacing: prepared data that differ less are on the grid of the recipe


def train_in(
    recipe: str,
    data: str | Path | None,
    folder: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    batch: int | None = None,
    accumulate: int | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    devices: int = 1,
    workers: int = 0,
    threads: int | None = None,
    report: Report = lambda _row: None,
) -> Path:
    """Train by a recipe.

    Args:
        recipe: a key of ``RECIPES``.
        data: a folder that ``maxca prepare`` made; a recipe that makes images up needs none.
        folder: of the run.
        resume: go on with the run that is there; what it was started with holds, whatever the recipe says today.
        init: a model to start from: a file, or the name of one that comes along.
        steps: in place of those of the recipe.
        seed: likewise.
        batch: likewise; pairs in a step, over all processes.
        accumulate: likewise; the parts in which a process does its share.
        precision: likewise.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: GPUs, or processes on a CPU.
        workers: processes that prepare samples.
        threads: of each process.
        report: called with each row of the log.

    Returns:
        The folder.

    Raises:
        MaxcaError: for what cannot be trained.
    """
    if recipe not in RECIPES:
        plugins = read_about(folder)["config"].get("plugins", ()) if resume else ()
        raise UnknownName("recipe", recipe, RECIPES).from_plugins(plugins)
    config = RECIPES[recipe]()
    asked: dict[str, Any] = {
        "steps": steps,
        "seed": seed,
        "batch": batch,
        "accumulate": accumulate,
        "precision": precision,
    }
    config = replace(config, **{name: value for name, value in asked.items() if value is not None})
    if resume:
        config = config_from_plain(read_about(folder)["config"])
    if data is None and config.synth is None:
        raise MaxcaError(f"the recipe {recipe} needs --data, a folder that maxca prepare made")
    prepared = NOTHING if data is None else read_prepared(data)
    check_spacing(config, prepared)
    weights = None if init is None else _weights(init, config)
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MaxcaError("training needs more packages: pip install 'maxca[train]'") from error
    fabric = Fabric(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "cuda"}[device],
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=config.precision,
    )
    fabric.launch()
    run = Run(Path(folder))
    with ExitStack() as stack:
        stack.enter_context(torch_thread_limit(threads))
        if fabric.is_global_zero:
            stack.enter_context(alone_in(make_folder(run.folder), "another maxca train"))
            run = start_run(folder, config, prepared, resume=resume)
            held = run.checkpoint(torch.device("cpu"))
            run.trim_log(0 if held is None else int(held["step"]))
        fabric.barrier()
        train(config, prepared, run, fabric, weights=weights, workers=workers, report=report)
    return run.folder


def check_spacing(config: TrainingConfig, data: Prepared) -> None:
    """Refuse data on another grid than the recipe's.

    Raises:
        MaxcaError: when the spacing differs.
    """
    for scan in data.scans:
        pairs = zip(config.spacing, scan.spacing, strict=True)
        if any(mm is not None and abs(mm - has) > SAME * mm for mm, has in pairs):
            raise MaxcaError(
                f"{data.folder}: {scan.name} was prepared at {scan.spacing} mm, and the recipe {config.recipe} wants "
                f"{config.spacing}"
            )


def _weights(init: str | Path, config: TrainingConfig) -> dict[str, Tensor]:
    model = load_model(find_model(init))
    theirs: dict[str, Any] = model.config.as_plain()
    if theirs != config.network.as_plain():
        raise MaxcaError(f"{init}: is a {theirs}, and the recipe {config.recipe} trains a {config.network.as_plain()}")
    return dict(model.network.state_dict())
