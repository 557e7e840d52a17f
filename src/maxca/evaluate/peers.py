"""Other registration tools with common settings, each run in a separate process.

    python -m maxca.evaluate.peers kind FIXED                                            # prints the kind of its
    settings python -m maxca.evaluate.peers TOOL FIXED MOVING FOLDER THREADS KIND [SMOOTHNESS]    # this is timed

Settings depend on the fixed image alone, see ``kind_of``, which is not part of the timing:

- greedy: ``-a`` with NCC, then the deformable stage. If it rejects a pyramid on a stack of few slices, it is
  repeated with one level; picsl-greedy 1.4.0 takes two levels down to 6 slices. A slice is registered in two
  dimensions.
- syn: ``ants.registration(type_of_transform="SyN")`` with its defaults; one level if it rejects those (few slices).
- elastix: its default parameter maps, affine and then B-spline.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

THICK = 3.0  # times the smallest spacing: slices this thick are a stack
SMALL = 250_000  # voxels


class ToolInput(NamedTuple):
    """Settings of a tool."""

    fixed: Path
    moving: Path
    folder: Path
    kind: str = "volume"
    smoothness: float | None = None


class Greedy(NamedTuple):
    """Options of its two stages; the σ of the update is inserted between them."""

    affine: str
    deformable: str
    sigma: float
    last: str


# In the order of the attempts.
GREEDY = {
    "volume": [Greedy("-m NCC 4x4x4 -n 100x50x10", "-m NCC 4x4x4 -n 100x50x20", 1.6, "0.5mm -e 0.5")],
    "stack": [
        Greedy("-m NCC 4x4x1 -n 100x50", "-m NCC 4x4x1 -n 100x50", 4.0, "1.5mm"),
        Greedy("-m NCC 4x4x1 -n 100", "-m NCC 4x4x1 -n 100", 4.0, "1.5mm"),
    ],
    "small": [Greedy("-m NCC 2x2x2 -n 100x60", "-m NCC 2x2x2 -n 100x60", 1.6, "0.5mm")],
    "slice": [Greedy("-m NCC 4x4 -n 100x50x10", "-m NCC 4x4 -n 100x50x20", 1.6, "0.5mm -e 0.5")],
}
ANTS_ONE_LEVEL: dict[str, tuple[int, ...]] = {
    "aff_iterations": (2100,),
    "aff_shrink_factors": (1,),
    "aff_smoothing_sigmas": (0,),
    "reg_iterations": (40,),
}
LABELS, FIELD = "labels.nii.gz", "field.nii.gz"


def kind_of(fixed: Path) -> str:
    """``"slice"``, ``"stack"`` of thick slices, ``"small"``, or ``"volume"``."""
    from maxca.io.images import read

    grid = read(fixed).grid
    if grid.thin_axes == (2,):
        return "slice"
    if grid.spacing.max() > THICK * grid.spacing.min():
        return "stack"
    i, j, k = grid.shape
    return "small" if i * j * k < SMALL else "volume"


def greedy_register(pair: ToolInput, threads: int) -> None:
    """Run greedy, which writes ``aff.mat`` and ``warp.nii.gz``."""
    dimension = 2 if pair.kind == "slice" else 3
    images = [plane(path, pair.folder) for path in pair[:2]] if dimension == 2 else pair[:2]
    both = (f"-d {dimension} -threads {threads} -i", *images)
    warp, affine = (pair.folder / name for name in PARTS["greedy"])

    def attempt(how: Greedy) -> None:
        sigma = how.sigma if pair.smoothness is None else pair.smoothness
        greedy(*both, "-a", how.affine, "-ia-image-centers -o", affine, dimension=dimension)
        last = (f"-s {sigma:g}mm", how.last, "-o", warp)
        greedy(*both, "-it", affine, how.deformable, *last, dimension=dimension)

    first_that_runs([partial(attempt, how) for how in GREEDY[pair.kind]])
    if dimension == 2:
        in_space(pair, warp, affine)


def plane(path: Path, folder: Path) -> Path:
    """A slice as an image in two dimensions, whose axes and origin are those of the voxels."""
    import nibabel as nib
    import numpy as np

    from maxca.io.images import read

    image = read(path)
    sized = np.diag([-image.grid.spacing[0], -image.grid.spacing[1], 1.0, 1.0])
    flat = folder / f"plane_{path.name.split('.')[0]}.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.data, dtype=np.float32)[:, :, 0], sized), flat)
    return flat


def in_space(pair: ToolInput, warp: Path, affine: Path) -> None:
    """Rewrite the map between the planes of two slices as one between their world spaces."""
    import nibabel as nib
    import numpy as np

    from maxca.io.images import read
    from maxca.io.itk import FLIP

    fixed, moving = (read(path).grid for path in (pair.fixed, pair.moving))
    to_plane, from_plane = np.diag([*fixed.spacing[:2], 1, 1]), np.diag([*1 / moving.spacing[:2], 1, 1])
    found, planar = np.loadtxt(affine), np.eye(4)
    planar[:2, :2], planar[:2, 3] = found[:2, :2], -found[:2, 2]  # greedy writes it in RAS
    np.savetxt(affine, moving.affine @ from_plane @ planar @ to_plane @ fixed.world_to_voxel)
    field: Any = nib.load(warp)
    vectors = np.asarray(field.dataobj).reshape(*fixed.shape[:2], 1, 1, 2) / fixed.spacing[:2]
    vectors = vectors @ (FLIP[:, None] * fixed.affine[:3, :2]).T
    image = nib.Nifti1Image(vectors.astype(np.float32), fixed.affine)
    image.header.set_intent("vector")
    nib.save(image, warp)


def greedy_warp(pair: ToolInput, labels: Path) -> None:
    """Write the moving labels on the fixed grid to ``LABELS``."""
    transforms = (pair.folder / name for name in PARTS["greedy"])
    greedy("-d 3 -rf", pair.fixed, "-ri NN -rm", labels, pair.folder / LABELS, "-r", *transforms)


def greedy(*command: str | Path, dimension: int = 3) -> None:
    """Run greedy in this process. Its command is parsed like that of a shell, so file names are quoted."""
    from picsl_greedy import Greedy2D, Greedy3D

    (Greedy2D if dimension == 2 else Greedy3D)().execute(
        " ".join(shlex.quote(str(part)) if isinstance(part, Path) else part for part in command)
    )


def syn_register(pair: ToolInput, threads: int) -> None:
    """Run SyN, which writes ``syn_1Warp.nii.gz`` and ``syn_0GenericAffine.mat``."""
    import ants

    fixed, moving = ants.image_read(str(pair.fixed)), ants.image_read(str(pair.moving))
    smooth = {} if pair.smoothness is None else {"flow_sigma": update_variance(pair.smoothness, fixed.spacing)}

    def attempt(options: dict[str, tuple[int, ...]]) -> None:
        prefix = str(pair.folder / "syn_")
        ants.registration(fixed, moving, type_of_transform="SyN", outprefix=prefix, **smooth, **options)
        if not (pair.folder / "syn_1Warp.nii.gz").is_file():
            raise RuntimeError("antsRegistration wrote no warp")

    settings = [{}, ANTS_ONE_LEVEL] if pair.kind == "stack" else [{}]
    first_that_runs([partial(attempt, options) for options in settings])


def update_variance(sigma: float, spacing: Sequence[float]) -> float:
    """The smoothing of the update in SyN's unit: a variance in voxels (ITK) of the finest axis.

    Args:
        sigma: in mm, at full resolution.
        spacing: of the fixed image, in mm.
    """
    return (sigma / min(spacing)) ** 2


def syn_warp(pair: ToolInput, labels: Path) -> None:
    """Write the moving labels on the fixed grid to ``LABELS``."""
    import ants

    transforms = [str(pair.folder / name) for name in PARTS["syn"]]
    fixed, moving = ants.image_read(str(pair.fixed)), ants.image_read(str(labels))
    ants.image_write(
        ants.apply_transforms(fixed, moving, transforms, interpolator="nearestNeighbor"), str(pair.folder / LABELS)
    )


def elastix_register(pair: ToolInput, threads: int) -> None:
    """Run elastix, which writes ``elastix.0.txt`` and ``elastix.1.txt``."""
    import itk

    parameters = itk.ParameterObject.New()
    for stage in ("affine", "bspline"):
        settings = parameters.GetDefaultParameterMap(stage)
        if stage == "bspline" and pair.smoothness is not None:
            settings["FinalGridSpacingInPhysicalUnits"] = (f"{pair.smoothness:g}",)
        parameters.AddParameterMap(settings)
    fixed, moving = read_itk(pair.fixed), read_itk(pair.moving)
    # The number of threads is set by the environment: if set here, itk-elastix 0.25.4 crashes in the B-spline stage.
    _, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
    for number in range(found.GetNumberOfParameterMaps()):
        # A static method: called on the object it would get an additional argument.
        type(found).WriteParameterFile(found.GetParameterMap(number), str(pair.folder / f"elastix.{number}.txt"))


def elastix_warp(pair: ToolInput, labels: Path) -> None:
    """Write the moving labels on the fixed grid to ``LABELS``."""
    import itk

    itk.imwrite(transformix(pair.folder, labels).GetOutput(), str(pair.folder / LABELS))


def elastix_map(pair: ToolInput) -> None:
    """Write the whole map to ``FIELD``, because elastix writes its parameters only."""
    import itk

    itk.imwrite(transformix(pair.folder, pair.moving, field=True).GetOutputDeformationField(), str(pair.folder / FIELD))


def transformix(folder: Path, image: Path, *, field: bool = False) -> Any:
    """The transform of elastix applied to an image by nearest neighbour, optionally as displacements."""
    import itk

    parameters = itk.ParameterObject.New()
    for file in sorted(folder.glob("elastix.?.txt")):
        parameters.AddParameterFile(str(file))
    for number in range(parameters.GetNumberOfParameterMaps()):
        parameters.SetParameter(number, "FinalBSplineInterpolationOrder", "0")
    applied = itk.TransformixFilter.New(read_itk(image), transform_parameter_object=parameters)
    applied.SetComputeDeformationField(field)
    applied.SetOutputDirectory(str(folder))  # otherwise it writes files into the working directory
    applied.UpdateLargestPossibleRegion()
    return applied


def first_that_runs(attempts: Sequence[Callable[[], None]]) -> None:
    """Run the first settings that the tool accepts; failed attempts are included in the time."""
    for attempt in attempts[:-1]:
        try:
            return attempt()
        except RuntimeError as refusal:
            print(refusal, file=sys.stderr)
    attempts[-1]()


def read_itk(path: Path) -> Any:
    """An image for elastix."""
    import itk

    return itk.imread(str(path), itk.F)


REGISTER: dict[str, Callable[[ToolInput, int], None]] = {
    "greedy": greedy_register,
    "syn": syn_register,
    "elastix": elastix_register,
}
WARP: dict[str, Callable[[ToolInput, Path], None]] = {"greedy": greedy_warp, "syn": syn_warp, "elastix": elastix_warp}
# Steps before a tool's map can be read, not included in its time.
MAP: dict[str, Callable[[ToolInput], None]] = {"elastix": elastix_map}
# The files of the map; the first one is applied to the fixed point first.
PARTS = {
    "greedy": ("warp.nii.gz", "aff.mat"),
    "syn": ("syn_1Warp.nii.gz", "syn_0GenericAffine.mat"),
    "elastix": (FIELD,),
}


def main(arguments: Sequence[str]) -> None:
    """Run one step; see the module docstring."""
    tool, fixed, *rest = arguments
    if tool == "kind":
        print(kind_of(Path(fixed)))
        return
    moving, folder, threads, kind, *smoothness = rest
    sigma = float(smoothness[0]) if smoothness else None
    REGISTER[tool](ToolInput(Path(fixed), Path(moving), Path(folder), kind, sigma), int(threads))


if __name__ == "__main__":
    main(sys.argv[1:])
