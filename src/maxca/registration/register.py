"""The way of one pair: two images in, a ``Result`` out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil
import torch

from maxca import __version__
from maxca.engine.affine import Start, align
from maxca.engine.comparison import similarity_of
from maxca.engine.settings import between_contrasts, settings_for
from maxca.engine.volume import Volume, content_box, crop, margin_of, normalise
from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.geometry.transforms import Residual
from maxca.io.images import ImageLike
from maxca.io.points import Points
from maxca.losses.similarity import SIMILARITIES
from maxca.models.load import Model, load_model
from maxca.models.predict import Answer, ask, choose
from maxca.models.zoo import find_model, shipped
from maxca.options import EFFORTS, EffortName, MatrixConvention
from maxca.registration.additional import read_further
from maxca.registration.assessment import landmark_error, overlap, regularity
from maxca.registration.deformation import Ask, deform
from maxca.registration.inputs import Side, check_pair, checked_start, noticed, paired_points, read_initial, read_side
from maxca.registration.interpolation import InterpolationChoice
from maxca.registration.provenance import identities, peak_memory_mb, versions
from maxca.registration.resampling import resample
from maxca.registration.result import Result
from maxca.runtime import thread_limit

TransformName = Literal["deformable", "affine", "rigid"]
TRANSFORMS: tuple[TransformName, ...] = get_args(TransformName)
MODELS = ("auto", "none")
BYTES_PER_VOXEL = 250  # of the finest level: measured peak, with reserve
BYTES_PER_IMAGE_VOXEL = 40  # of the two images: as read, normalised and warped
Progress = Callable[[str, float], None]


def register(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    model: str = "auto",
    transform: TransformName = "deformable",
    initial_transform: str | Path | Chain | None = None,
    matrix_convention: MatrixConvention | None = None,
    effort: EffortName = "balanced",
    similarity: str = "lncc",
    smoothness: float | None = None,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    fixed_labels: ImageLike | None = None,
    moving_labels: ImageLike | None = None,
    fixed_points: str | Path | np.ndarray | Points | None = None,
    moving_points: str | Path | np.ndarray | Points | None = None,
    apply: Sequence[ImageLike | tuple[ImageLike, InterpolationChoice]] = (),
    fill: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress = lambda _stage, _share: None,
) -> Result:
    """Align a moving image to a fixed one.

    Images may be paths (NIfTI, MHA, NRRD, a folder with a DICOM series), nibabel or SimpleITK images, or
    ``maxca.Image``.

    Args:
        fixed: the image whose space is kept.
        moving: the image that is warped onto it.
        model: a trained network, whose flow is then refined on the pair: a file, the name of one that comes along, or
            ``hf://OWNER/NAME`` on Hugging Face; ``"none"`` optimises the pair from scratch; ``"auto"`` asks the
            models that come along and are made for such images, and takes the first whose answer proves itself.
        transform: ``"deformable"`` (affine, then a field), ``"affine"`` or ``"rigid"``.
        initial_transform: a file or a chain, fixed world points → moving world points, to start from; or ``"header"``
            or ``"center"`` to start from the headers or from the centres of mass alone.
        matrix_convention: what an initial transform means that is a bare 4x4 matrix: ``"ras"`` (fixed to moving, RAS
            mm) or ``"fsl"`` (of FLIRT); it is never guessed.
        effort: ``"fast"``, ``"balanced"`` or ``"accurate"``.
        similarity: what the deformation maximises: ``"lncc"``, ``"mi"`` or ``"mse"``.
        smoothness: reach of the motion of a point in mm; larger is smoother. By default three times the smallest
            spacing, and nine times between two contrasts.
        fixed_mask: where the similarity counts, on the grid of ``fixed``.
        moving_mask: where the moving image may pull, on the grid of ``moving``.
        fixed_labels: labels to measure overlap with, on the grid of ``fixed``; never used to align.
        moving_labels: labels to warp, on the grid of ``moving``; never used to align.
        fixed_points: landmarks to measure the error at; never used to align.
        moving_points: the same landmarks in the moving image, by name where both files name them, else row by row.
        apply: further images of the moving space to warp; each may be a pair of the image and its interpolation,
            ``"auto"`` (label maps are recognised) unless given; see ``maxca.registration.interpolation.choose``.
        fill: the value outside the field of view of the moving image; by default its background, see
            ``maxca.registration.interpolation.background``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        threads: CPU threads; torch's default unless given.
        seed: decides which samples the affine looks at.
        progress: called with the stage and the share of the work done.

    Returns:
        Transforms (fixed world points → moving world points, and back), warped images, metrics and record.

    Raises:
        MaxcaError: for input that cannot be registered, in one line that says what to do.
    """
    _check_options(model, transform, effort, similarity, smoothness, threads)
    where = _device(device)
    clock = _Clock()
    network = None if model in MODELS else load_model(find_model(model), where)
    with thread_limit(threads), clock.stage("read"):
        progress("reading", 0.0)
        fixed_side = read_side("fixed", fixed, fixed_mask, fixed_labels, fixed_points)
        moving_side = read_side("moving", moving, moving_mask, moving_labels, moving_points)
        fixed_side, moving_side = paired_points(fixed_side, moving_side)
        inputs = identities(fixed=fixed_side, moving=moving_side)
        others = read_further(apply, fill)
        initial, start = read_initial(
            initial_transform, matrix_convention, (fixed_side.image.grid, moving_side.image.grid)
        )
        check_pair(fixed_side, moving_side)
        start, apart = checked_start(fixed_side, moving_side, initial, start)
    with torch.no_grad(), thread_limit(threads):
        with clock.stage("prepare"):
            progress("preparing", 0.02)
            # A start with fields in it is applied to the moving image first; what is found then comes before it.
            guess = initial.as_affine() if initial.is_affine else None
            known = Chain() if initial.is_affine else initial
            fixed_volume = _cropped(_volume(fixed_side, where))
            upright = _upright(fixed_volume)  # where a field lies
            moving_volume = _volume(moving_side, where)
            moving_volume = _moved(moving_volume, fixed_volume.grid, known) if known.steps else _cropped(moving_volume)
        settings = settings_for(upright.grid, effort, similarity, smoothness)
        _check_memory(fixed_side.image.grid, moving_side.image.grid, settings.levels[-1].voxels(upright.grid))
        with clock.stage("align"):
            alignment = align(
                fixed_volume,
                moving_volume,
                kind="rigid" if transform == "rigid" else "affine",
                similarity=similarity,
                initial=guess if initial.steps else None,
                start=_start(start),
                thorough=effort != "fast",
                seed=seed,
                progress=lambda stage: progress(stage, 0.06),
            )
        if smoothness is None and not alignment.same_contrast:
            settings = between_contrasts(settings)
        found, back = Chain((alignment.affine,)), Chain((alignment.affine.inverse()[0],))
        residual = Residual(0.0, 0.0)
        deformation = None
        if transform == "deformable":
            deformation = deform(
                upright,
                moving_volume,
                alignment.affine,
                settings,
                _asking(model, network),
                clock.stage,
                lambda stage, done, total: progress(stage, 0.15 + 0.7 * done / max(total, 1)),
            )
            found, back = found @ Chain((deformation.field,)), Chain((deformation.inverse,)) @ back
            residual = deformation.residual
        known_back, left = known.inverse()
        residual = residual | left
        flat = {fixed_side.image.dimension, moving_side.image.dimension} == {2}
        chain, inverse = (
            replace(each.to(torch.device("cpu")).simplified(), dimension=2 if flat else 3)
            for each in (known @ found, back @ known_back)
        )
        with clock.stage("warp"):
            progress("warping", 0.9)
            grid, form = fixed_side.image.grid, fixed_side.image.form
            warped = resample(moving_side.image, grid, chain, fill=fill, form=form)
            labels = moving_side.label_image
            warped_labels = None if labels is None else resample(labels, grid, chain, "labels", form=form)
            applied = {name: other.warped(fixed_side.image, chain) for name, other in others.items()}
        with clock.stage("measure"):
            progress("measuring", 0.95)
            begun = Chain((guess,)) if guess else Chain()
            scores = similarity_of(fixed_volume, moving_volume, similarity, {"before": begun, "after": found})
            measured = {
                "similarity": {"name": similarity, **scores},
                **regularity(chain, inverse, upright, settings.levels[-1].factor),
                "inverse_residual_mm": residual._asdict(),
                **overlap(fixed_side, labels, warped_labels),
                **landmark_error(fixed_side, moving_side, chain),
            }
    progress("done", 1.0)
    answer = None if deformation is None else deformation.answer
    # A name chosen among those that come along, or what the user wrote.
    used = answer.model.name if answer is not None and model == "auto" else str(model) if network is not None else None
    loaded = network or (answer.model if answer is not None else None)
    further = [warning for other in others.values() for warning in other.warnings]
    further += [warning for image in applied.values() for warning in image.warnings]
    advice = _advice(alignment.same_contrast, similarity, answer)
    record = {
        "maxca": __version__,
        "transform.h5": "maps fixed world points to moving world points",
        "inputs": {**inputs, **({} if loaded is None or loaded.source is None else {"model": dict(loaded.source)})},
        "settings": {
            "model": used or "none",
            "model_reason": f"a {transform} transform needs none" if deformation is None else deformation.reason,
            "transform": transform,
            "initial_transform": None if initial_transform is None else str(initial_transform),
            "matrix_convention": matrix_convention,
            "effort": effort,
            "optimisation": None if deformation is None else asdict(deformation.plan),
            "seed": seed,
            "threads": threads or torch.get_num_threads(),
            "device": str(where),
        },
        "applied": {name: other.as_plain() for name, other in others.items()},
        "affine": {**asdict(alignment), "affine": alignment.affine.matrix},
        "network": {} if answer is None else answer.as_plain(),
        "levels": [] if deformation is None else [asdict(level) for level in deformation.levels],
        "metrics": measured,
        "warnings": [*apart, *advice, *noticed(fixed_side, moving_side), *warped.warnings, *further],
        "versions": versions(),
        "seconds": clock.seconds,
        "peak_memory_mb": peak_memory_mb(),
    }
    return Result(chain, inverse, grid, warped, warped_labels, applied, record)


def _asking(model: str, network: Model | None) -> Ask | None:
    """How to come by a network's answer: from the one that is wanted, or from the one that fits; None to do without."""
    if model == "none":
        return None

    def asked(*pair: Any) -> tuple[Answer | None, str]:
        if network is None:
            answer, reasons = choose(map(find_model, shipped()), *pair)
            return answer, "; ".join(reasons)
        answer = ask(network, *pair)
        return answer, f"as asked; {answer.reason}"

    return asked


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)


def _volume(side: Side, device: torch.device) -> Volume:
    values = normalise(torch.as_tensor(side.image.data.astype(np.float32)).to(device))
    mask = None if side.mask is None else torch.as_tensor(side.mask, dtype=torch.float32, device=device)
    return Volume(values, side.image.grid, mask)


def _upright(volume: Volume) -> Volume:
    """On axes at right angles, on which ITK's fields lie; outside of what is known nothing counts."""
    return _moved(volume, volume.grid.upright, Chain()) if volume.grid.is_sheared else volume


def _cropped(volume: Volume) -> Volume:
    return crop(volume, *content_box(volume, margin_of(volume.grid)))


def _moved(volume: Volume, grid: Grid, chain: Chain) -> Volume:
    values = chain.resample(volume.values[None], volume.grid, grid)[0]
    mask = torch.ones_like(volume.values) if volume.mask is None else volume.mask
    return Volume(values, grid, chain.resample(mask[None], volume.grid, grid)[0])


def _start(word: str) -> Start:
    return "header" if word == "header" else "center" if word == "center" else "auto"


def _advice(same_contrast: bool, similarity: str, answer: Answer | None) -> list[str]:
    advice = []
    if answer is not None and not answer.similarity:
        advice.append(f"the model {answer.model.name} was left out: {answer.reason}")
    elif answer is not None and not answer.taken:
        advice.append("the network made the pair no more alike than would be without it, so its answer was left out")
    if same_contrast or similarity == "mi":
        return advice
    if similarity == "mse":
        return [*advice, "the images differ in contrast, which mse does not expect; use --similarity lncc or mi"]
    return [*advice, "the images differ in contrast: more similarity proves less there, so look at the result"]


def _check_options(
    model: str, transform: str, effort: str, similarity: str, smoothness: float | None, threads: int | None
) -> None:
    for option, value, known in (
        ("transform", transform, TRANSFORMS),
        ("effort", effort, EFFORTS),
        ("similarity", similarity, SIMILARITIES),
    ):
        if value not in known:
            raise MaxcaError(f"--{option} {value}: choose one of {', '.join(known)}")
    if model not in MODELS:
        find_model(model)
    if smoothness is not None and not 0 < smoothness < float("inf"):
        raise MaxcaError(f"--smoothness {smoothness}: give a positive number of millimetres")
    if threads is not None and threads < 1:
        raise MaxcaError(f"--threads {threads}: give at least 1")


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise MaxcaError(f"--device {name}: choose one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise MaxcaError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _check_memory(fixed: Grid, moving: Grid, finest: int) -> None:
    """Refuse a pair that will not fit, before hours are spent on it."""
    needed = (finest * BYTES_PER_VOXEL + (np.prod(fixed.shape) + np.prod(moving.shape)) * BYTES_PER_IMAGE_VOXEL) / 1e9
    free = psutil.virtual_memory().available / 1e9
    if needed > free:
        raise MaxcaError(
            f"this pair needs about {needed:.1f} GB of memory and {free:.1f} GB are free; use --effort fast, crop the "
            "images, or free memory"
        )
