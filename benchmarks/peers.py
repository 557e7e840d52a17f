"""The registration tools beside ours, each as it is commonly run, in a process of its own.

    python peers.py register METHOD SET FIXED MOVING FOLDER THREADS    # raw pair to transform files; this is timed
    python peers.py warp     METHOD SET FIXED MOVING FOLDER LABELS     # labels through the method's own tool

Settings, the same for every pair of a set:

- greedy: ``-a`` with NCC, then the deformable stage. Where it refuses a pyramid on a stack of few slices (``cardiac``),
  it starts again with one level; picsl-greedy 1.4.0 takes two levels down to 6 slices.
- syn: ``ants.registration(type_of_transform="SyN")`` with its defaults; one level where it refuses those (``cardiac``).
- elastix: its default parameter maps, affine and then B-spline.
- maxca-EFFORT: ``maxca register --effort EFFORT --model none`` on every set, with no other option;
  maxca-EFFORT-MODEL: the same with ``--model MODEL``, as in ``maxca-balanced-auto``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """What a method gets: the raw files, where to work, and which kind of image it is."""

    kind: str
    fixed: Path
    moving: Path
    folder: Path


# Affine and deformable settings, in the order in which they are tried.
GREEDY = {
    "brain": [("-m NCC 4x4x4 -n 100x50x10", "-m NCC 4x4x4 -n 100x50x20 -s 1.6mm 0.5mm -e 0.5")],
    "cardiac": [
        ("-m NCC 4x4x1 -n 100x50", "-m NCC 4x4x1 -n 100x50 -s 4mm 1.5mm"),
        ("-m NCC 4x4x1 -n 100", "-m NCC 4x4x1 -n 100 -s 4mm 1.5mm"),
    ],
    "hippocampus": [("-m NCC 2x2x2 -n 100x60", "-m NCC 2x2x2 -n 100x60 -s 1.6mm 0.5mm")],
}
ANTS_ONE_LEVEL: dict[str, tuple[int, ...]] = {
    "aff_iterations": (2100,),
    "aff_shrink_factors": (1,),
    "aff_smoothing_sigmas": (0,),
    "reg_iterations": (40,),
}
ANTS: dict[str, list[dict[str, tuple[int, ...]]]] = {
    "brain": [{}],
    "cardiac": [{}, ANTS_ONE_LEVEL],
    "hippocampus": [{}],
}
LABELS, FIELD = "labels.nii.gz", "field.nii.gz"


def register_command(method: str, pair: Pair, threads: int) -> list[str]:
    """The command line that registers one pair from its raw files."""
    if method.startswith("maxca-"):
        effort, _, model = method.removeprefix("maxca-").partition("-")
        options = ["--effort", effort, "--model", model or "none", "--threads", str(threads), "-q", "--overwrite"]
        files = ["-f", str(pair.fixed), "-m", str(pair.moving), "-o", str(pair.folder)]
        return [sys.executable, "-m", "maxca", "register", *files, *options]
    return [sys.executable, __file__, "register", method, *map(str, pair), str(threads)]


def warp_command(method: str, pair: Pair, labels: Path) -> list[str]:
    """The command line that leaves the moving labels on the fixed grid in ``LABELS``."""
    return [sys.executable, __file__, "warp", method, *map(str, pair), str(labels)]


def environment(threads: int) -> dict[str, str]:
    """The environment of every process of a benchmark: one number of threads for all."""
    limits = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": str(threads) for name in limits},
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
        "ANTS_RANDOM_SEED": "1",
    }


def greedy_register(pair: Pair, threads: int) -> None:
    images = f"-i {pair.fixed} {pair.moving}"

    def attempt(affine: str, deformable: str) -> None:
        greedy(f"-d 3 -threads {threads} -a {images} {affine} -ia-image-centers -o {pair.folder}/aff.mat")
        greedy(f"-d 3 -threads {threads} {images} -it {pair.folder}/aff.mat {deformable} -o {pair.folder}/warp.nii.gz")

    first_that_runs([partial(attempt, *settings) for settings in GREEDY[pair.kind]])


def greedy_warp(pair: Pair, labels: Path) -> None:
    transforms = f"-r {pair.folder}/warp.nii.gz {pair.folder}/aff.mat"
    greedy(f"-d 3 -rf {pair.fixed} -ri NN -rm {labels} {pair.folder / LABELS} {transforms}")


def greedy(command: str) -> None:
    from picsl_greedy import Greedy3D

    Greedy3D().execute(command)


def syn_register(pair: Pair, threads: int) -> None:
    import ants

    fixed, moving = ants.image_read(str(pair.fixed)), ants.image_read(str(pair.moving))

    def attempt(options: dict[str, tuple[int, ...]]) -> None:
        prefix = str(pair.folder / "syn_")
        ants.registration(fixed, moving, type_of_transform="SyN", outprefix=prefix, **options)
        if not (pair.folder / "syn_1Warp.nii.gz").is_file():
            raise RuntimeError("antsRegistration wrote no warp")

    first_that_runs([partial(attempt, options) for options in ANTS[pair.kind]])


def syn_warp(pair: Pair, labels: Path) -> None:
    import ants

    transforms = [str(pair.folder / name) for name in ("syn_1Warp.nii.gz", "syn_0GenericAffine.mat")]
    fixed, moving = ants.image_read(str(pair.fixed)), ants.image_read(str(labels))
    ants.image_write(
        ants.apply_transforms(fixed, moving, transforms, interpolator="nearestNeighbor"), str(pair.folder / LABELS)
    )


def elastix_register(pair: Pair, threads: int) -> None:
    import itk

    parameters = itk.ParameterObject.New()
    for stage in ("affine", "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(stage))
    fixed, moving = read_itk(pair.fixed), read_itk(pair.moving)
    # The environment sets the number of threads: asked for here, itk-elastix 0.25.4 crashes in the B-spline stage.
    _, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
    for stage in range(found.GetNumberOfParameterMaps()):
        # A static method: called on the object itself it gets an argument too many.
        type(found).WriteParameterFile(found.GetParameterMap(stage), str(pair.folder / f"elastix.{stage}.txt"))


def elastix_warp(pair: Pair, labels: Path) -> None:
    import itk

    parameters = itk.ParameterObject.New()
    for file in sorted(pair.folder.glob("elastix.?.txt")):
        parameters.AddParameterFile(str(file))
    for stage in range(parameters.GetNumberOfParameterMaps()):
        parameters.SetParameter(stage, "FinalBSplineInterpolationOrder", "0")
    transformix = itk.TransformixFilter.New(read_itk(labels), transform_parameter_object=parameters)
    transformix.SetComputeDeformationField(True)
    transformix.SetOutputDirectory(str(pair.folder))  # else it leaves files in the working directory
    transformix.UpdateLargestPossibleRegion()
    itk.imwrite(transformix.GetOutput(), str(pair.folder / LABELS))
    itk.imwrite(transformix.GetOutputDeformationField(), str(pair.folder / FIELD))


def first_that_runs(attempts: Sequence[Callable[[], None]]) -> None:
    """Run the first, or the next when the tool refuses; the time of a refusal counts."""
    for attempt in attempts[:-1]:
        try:
            return attempt()
        except RuntimeError as refusal:
            print(refusal, file=sys.stderr)
    attempts[-1]()


def read_itk(path: Path) -> object:
    import itk

    return itk.imread(str(path), itk.F)


def maxca_warp(pair: Pair, labels: Path) -> None:
    import nibabel
    import numpy as np
    import torch

    from maxca.geometry import Grid
    from maxca.io.itk import read_transform

    fixed, moving = nibabel.load(pair.fixed), nibabel.load(labels)
    data = torch.as_tensor(np.asarray(moving.dataobj).astype(np.int32))[None]
    grids = (Grid(image.shape, image.affine) for image in (moving, fixed))
    warped = read_transform(pair.folder / "transform.h5").resample(data, *grids, "nearest")
    nibabel.Nifti1Image(warped[0].numpy(), fixed.affine).to_filename(pair.folder / LABELS)


REGISTER: dict[str, Callable[[Pair, int], None]] = {
    "greedy": greedy_register,
    "syn": syn_register,
    "elastix": elastix_register,
}
WARP: dict[str, Callable[[Pair, Path], None]] = {"greedy": greedy_warp, "syn": syn_warp, "elastix": elastix_warp}
EFFORTS = ("fast", "balanced", "accurate")
METHODS = (*(f"maxca-{effort}" for effort in EFFORTS), *REGISTER)


def known(method: str) -> bool:
    """Whether this is a method: one of ``METHODS``, or one of ours with a model behind it."""
    ours, effort, model = (*method.split("-", 2), "", "")[:3]
    return method in METHODS or (ours == "maxca" and effort in EFFORTS and bool(model))


PACKAGES = {"greedy": "picsl-greedy", "syn": "antspyx", "elastix": "itk-elastix"}


def main(arguments: Sequence[str]) -> None:
    """Run one step of one method; see the head of this file."""
    step, method, kind, fixed, moving, folder, last = arguments
    pair = Pair(kind, Path(fixed), Path(moving), Path(folder))
    if step == "register":
        REGISTER[method](pair, int(last))
    else:
        WARP.get(method, maxca_warp)(pair, Path(last))


if __name__ == "__main__":
    main(sys.argv[1:])
