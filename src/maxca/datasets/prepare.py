"""Preparation of data sets for training, with a manifest.

Intensities are normalised to [0, 1] as in ``register``, voxels get the spacing of the network, and axes run right,
anterior, superior. Scans of different subjects are affinely registered to a template, the mean of some training scans.
If the plan has a shape, they are resampled onto its grid, as in publications; otherwise they keep their position, as in
``register``, and the affine is stored. Scans of one subject keep their position and are cropped around the centre.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from maxca.datasets.brain import LAYOUTS, read_bids, reader
from maxca.datasets.cardiac import read_acdc
from maxca.datasets.hippocampus import read_msd
from maxca.datasets.listed import read_list
from maxca.datasets.options import PreparationOptions
from maxca.datasets.prepared import FORMAT, MANIFEST, SCANS
from maxca.engine.affine import AffineSettings, align
from maxca.engine.volume import Volume, content_box, margin_of, normalise, resampled
from maxca.errors import MaxcaError
from maxca.geometry import Affine, Chain, Grid
from maxca.io.atomic import atomic_path
from maxca.io.digest import sha256
from maxca.io.images import Image, read, write
from maxca.io.label_table import read_label_table
from maxca.io.pairs import PairKind, Scan, split_by_subject
from maxca.registration.labels import as_labels
from maxca.registration.placement import placed
from maxca.version import installed_version

TEMPLATE = "template.nii.gz"
AVERAGED = 20  # training scans in the template
ROUNDS = 2  # iterations of averaging
VALIDATION_SHARE = 0.2
STILL = Affine.identity()
LISTED = "list"
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """The preparation of a data set.

    Args:
        read: function that finds its scans in a folder.
        kind: pairs of two subjects, which need a template, or of one.
        spacing: mm along i, j, k; None keeps that of the scan.
        shape: to crop or pad to, around the centre; None keeps an axis. With a shape, scans of different subjects are
            resampled onto the grid of the template.
        window: intensities mapped to 0 and 1; None for the range of the tissue, as in ``register``.
        names: of the labels by number, as far as known.
    """

    read: Callable[[Path], list[Scan]]
    kind: PairKind
    spacing: tuple[float | None, float | None, float | None]
    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    window: tuple[float, float] | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    def as_settings(self) -> dict[str, Any]:
        """The settings on which the files depend."""
        settings = asdict(replace(self, read=None))  # type: ignore[arg-type]
        unused = {"names"} if self.window else {"names", "window"}
        return {name: value for name, value in settings.items() if name not in unused}


HIPPOCAMPUS = {1: "anterior", 2: "posterior"}
HEART = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
DATASETS: dict[str, Plan] = {
    "hippocampus": Plan(read_msd, "inter", (1.0, 1.0, 1.0), names=HIPPOCAMPUS),
    "acdc": Plan(read_acdc, "intra", (1.5, 1.5, None), names=HEART),
    "paper-cardiac": Plan(read_acdc, "intra", (1.5, 1.5, 3.15), (128, 128, 32), names=HEART),
    "bids": Plan(read_bids, "inter", (2.0, 2.0, 2.0)),
    **{name: Plan(reader(name), "inter", (1.0, 1.0, 1.0), (144, 192, 160)) for name in LAYOUTS},
}


def listed_plan(options: PreparationOptions) -> Plan:
    """The plan for scans of a list.

    Raises:
        MaxcaError: for an invalid table of names.
    """
    table = {} if options.label_names is None else read_label_table(options.label_names)
    names = {index: entry.name for index, entry in table.items()}
    return Plan(read_list, options.kind, options.spacing_mm, options.shape_voxels, options.window, names)


def prepare(
    dataset: str,
    source: str | Path,
    out: str | Path,
    *,
    jobs: int = 1,
    plan: Plan | None = None,
    progress: Progress = lambda _stage, _share: None,
) -> list[str]:
    """Prepare a data set; the results of an earlier call with the same files and settings are kept.

    Args:
        dataset: a key of ``DATASETS``, or ``"list"`` with a plan of ``listed_plan``.
        source: its folder, or the list.
        out: the output folder, for ``data.prepared.read_prepared``.
        jobs: processes.
        plan: in place of that of the data set.
        progress: called with the current task and the completed fraction.

    Returns:
        A line for each scan that could not be prepared and was skipped, and for each correction.

    Raises:
        MaxcaError: if nothing can be prepared.
    """
    if plan is None and dataset not in DATASETS:
        raise MaxcaError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    plan = plan or DATASETS[dataset]
    source, out = Path(source), Path(out)
    if dataset != LISTED and not source.is_dir():
        raise MaxcaError(f"{source}: no such folder")
    scans = _with_split(plan.read(source))
    if plan.kind == "inter" and not any(scan.split == "train" for scan in scans):
        raise MaxcaError(
            f"{source}: no scan has the split train, but the template is a mean of training scans; assign some to it"
        )
    (out / SCANS).mkdir(parents=True, exist_ok=True)
    settings = {"maxca": installed_version(), "dataset": dataset, **plan.as_settings()}
    template = None
    if plan.kind == "inter":
        progress("creating a template", 0.0)
        template = _template(scans, plan, out, settings)
        settings["template"] = hashlib.sha256(template.data.tobytes()).hexdigest()
    work = partial(_prepared_row, plan=plan, template=template, folder=out / SCANS, settings=settings)
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    for number, (scan, row) in enumerate(_each(work, scans, jobs), start=1):
        progress(f"prepared {scan.name}", number / len(scans))
        if isinstance(row, str):
            failed.append(f"{scan.name}: {row}")
        else:
            rows.append(row)
    if not rows:
        raise MaxcaError(f"{source}: no scan could be prepared; the first: {failed[0]}")
    rows.sort(key=lambda row: row["name"])
    about = {
        "format": FORMAT,
        "maxca": installed_version(),
        "dataset": dataset,
        "kind": plan.kind,
        "spacing": plan.spacing,
        "shape": plan.shape,
        "names": sorted(plan.names.items()),
        "settings": settings,
        "scans": rows,
        "failed": sorted(failed),
    }
    with atomic_path(out / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return sorted(failed) + [warning for row in rows for warning in row["warnings"]]


def _each(work: Callable[[Scan], Any], scans: Sequence[Scan], jobs: int) -> Any:
    """(scan, row or reason), in order of completion."""
    if jobs == 1:
        yield from ((scan, work(scan)) for scan in scans)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        futures = {pool.submit(work, scan): scan for scan in scans}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _one_thread() -> None:
    torch.set_num_threads(1)


def _with_split(scans: Sequence[Scan]) -> list[Scan]:
    """Scans with a split: that of the data set, or a random one by subject."""
    if all(scan.split for scan in scans):
        return list(scans)
    if len({scan.subject for scan in scans}) < 2:
        return [replace(scan, split="train") for scan in scans]
    _, held_out = split_by_subject(scans, VALIDATION_SHARE)
    return [replace(scan, split="val" if scan in held_out else "train") for scan in scans]


def _prepared_row(
    scan: Scan, *, plan: Plan, template: Image | None, folder: Path, settings: dict[str, Any]
) -> dict[str, Any] | str:
    """Write the file of a scan and return its entry in the manifest, or the reason for an error."""
    try:
        inputs = {path.name: sha256(path) for path in map(Path, filter(None, (scan.image, scan.labels)))}
        path = folder / f"{scan.name}.safetensors"
        done = json.dumps({"inputs": inputs, "settings": settings}, sort_keys=True)
        held = _held(path)
        if held is None or held.get("done") != done:
            tensors, grid, affine, warnings = _voxels(scan, plan, template)
            to_voxel = grid.world_to_voxel @ affine.matrix
            spacing = np.array([float(f"{mm:.7g}") for mm in grid.spacing])
            plain = {"to_voxel": to_voxel.tolist(), "spacing": spacing.tolist(), "warnings": warnings}
            about = {"done": done, **{name: json.dumps(value) for name, value in plain.items()}}
            with atomic_path(path) as unfinished:
                save_file(tensors, unfinished, metadata=about)
        else:
            about = held
        return {
            "name": scan.name,
            "subject": scan.subject,
            "split": scan.split,
            "group": scan.group,
            "inputs": inputs,
            "spacing": json.loads(about["spacing"]),
            "to_voxel": json.loads(about["to_voxel"]),
            "warnings": json.loads(about["warnings"]),
        }
    except (MaxcaError, OSError, ValueError) as error:
        return " ".join(str(error).split())


def _held(path: Path) -> dict[str, str] | None:
    if not path.is_file():  # reading a pipe would block
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata()
    except (OSError, SafetensorError):
        return None


def _voxels(
    scan: Scan, plan: Plan, template: Image | None
) -> tuple[dict[str, torch.Tensor], Grid, Affine, tuple[str, ...]]:
    """Image and labels, their grid, the affine from the common world to the world of that grid, and warnings."""
    image = read(scan.image)
    volume, warnings = _volume(image, plan), image.warnings
    if template is None:
        grid, through, noted = volume.grid.canonical.at_spacing(plan.spacing).centered(plan.shape), STILL, STILL
    else:
        affine = align(Volume(torch.as_tensor(template.data), template.grid), volume).affine
        if any(plan.shape):
            grid, through, noted = template.grid, affine, STILL
        else:
            content = volume.grid.box(*content_box(volume, margin_of(volume.grid)))
            grid, through, noted = content.canonical.at_spacing(plan.spacing), STILL, affine
    chain = Chain((through,))
    tensors = {"image": (resampled(volume, grid, chain).clamp(0, 1) * 255).round().to(torch.uint8)}
    if scan.labels is not None:
        labels = placed("labels", read(scan.labels), image)
        warnings += labels.warnings
        names = torch.as_tensor(np.ascontiguousarray(_small_labels(labels)))
        tensors["labels"] = chain.resample(names[None], labels.grid, grid, "labels")[0]
    return {name: t.contiguous() for name, t in tensors.items()}, grid, noted, warnings


def _small_labels(labels: Image) -> np.ndarray:
    """Labels as int16, the type of prepared data sets.

    Raises:
        MaxcaError: for labels that are not integers, or too large.
    """
    values = as_labels(labels)
    limits = np.iinfo(np.int16)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        raise MaxcaError(
            f"{labels.name}: labels from {values.min()} to {values.max()}, but a prepared data set stores labels up "
            f"to {limits.max}; renumber them first (numpy.unique with return_inverse)"
        )
    return values.astype(np.int16)


def _volume(image: Image, plan: Plan) -> Volume:
    values = torch.as_tensor(image.data.astype(np.float32))
    if plan.window is None:
        return Volume(normalise(values), image.grid)
    low, high = plan.window
    return Volume(((values - low) / (high - low)).clamp_(0, 1), image.grid)


def _template(scans: Sequence[Scan], plan: Plan, out: Path, settings: dict[str, Any]) -> Image:
    """The mean of some training scans, each affinely registered to the previous mean; computed once."""
    path = out / TEMPLATE
    note = out / "template.json"
    chosen = [scan for scan in scans if scan.split == "train"]
    chosen = [chosen[n] for n in np.unique(np.linspace(0, len(chosen) - 1, AVERAGED).round().astype(int))]
    wanted = json.dumps({"settings": settings, "scans": [scan.name for scan in chosen]}, sort_keys=True)
    if path.is_file() and note.is_file() and note.read_text(encoding="utf-8") == wanted:
        return read(path)
    volumes = [_volume(read(scan.image), plan) for scan in chosen]
    grid = volumes[0].grid.canonical.at_spacing(plan.spacing).centered(plan.shape)
    mean = resampled(volumes[0], grid, Chain())
    for _ in range(ROUNDS):
        affines = [align(Volume(mean, grid), volume, AffineSettings(thorough=False)).affine for volume in volumes]
        mean = torch.stack([resampled(v, grid, Chain((a,))) for v, a in zip(volumes, affines, strict=True)]).mean(0)
    image = Image(mean.numpy(), grid)
    write(image.data, grid, path)
    with atomic_path(note) as unfinished:
        unfinished.write_text(wanted, encoding="utf-8")
    return image
