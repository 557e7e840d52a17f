"""``maxca.register``: the options of a registration as keywords. Made by tools/facade.py; do not edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maxca.geometry import Chain
from maxca.io.images import ImageLike
from maxca.io.points import Points
from maxca.models.load import Model
from maxca.options import (
    DeviceName,
    EffortName,
    FilledName,
    GuideName,
    MatrixConvention,
    PresetName,
    RegistrationOptions,
    SearchName,
    TransformName,
)
from maxca.registration.inputs import SideInputs
from maxca.registration.interpolation import InterpolationChoice
from maxca.registration.monitor import Monitor, Progress
from maxca.registration.register import register as _register
from maxca.registration.result import Result


def register(
    fixed: ImageLike | Sequence[ImageLike],
    moving: ImageLike | Sequence[ImageLike],
    *,
    apply: Sequence[ImageLike | tuple[ImageLike, InterpolationChoice]] = (),
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    fixed_exclude: ImageLike | None = None,
    moving_exclude: ImageLike | None = None,
    rigid: ImageLike | None = None,
    fixed_labels: ImageLike | None = None,
    moving_labels: ImageLike | None = None,
    fixed_points: str | Path | np.ndarray | Points | None = None,
    moving_points: str | Path | np.ndarray | Points | None = None,
    model: str | Path | Model = "auto",
    preset: PresetName | None = None,
    transform: TransformName = "deformable",
    initial_transform: str | Path | Chain | None = None,
    search: SearchName = "auto",
    matrix_convention: MatrixConvention | None = None,
    effort: EffortName = "balanced",
    similarity: str | Sequence[str] = "auto",
    channel_weights: Sequence[float] = (),
    guide: Sequence[GuideName] = (),
    label_table: str | Path | None = None,
    exclude_as: FilledName = "smooth",
    restrict: str | None = None,
    max_displacement: float | None = None,
    smoothness: float | None = None,
    uncertainty: int | None = None,
    fill: float | None = None,
    device: DeviceName = "auto",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress = lambda _stage, _share: None,
) -> Result:
    """Align a moving image to a fixed one.

    Args:
        fixed: the fixed image: its space and grid are kept. Repeated for several channels, such as T1 and T2 of one
            patient, on any grids; the grid of the first is kept. A path (NIfTI, FreeSurfer, MHA, NRRD, DICOM, PNG,
            TIFF), an image of nibabel or SimpleITK, a ``maxca.Image``, or a NumPy array and its affine, ``(array,
            affine)``; a list for several channels.
        moving: the moving image: it is warped onto the fixed one. Repeated for several channels, in the order of
            the fixed ones; all of them are warped. A list for several channels.
        apply: an additional image in moving space to warp; may be repeated. Label maps are detected, as printed in
            the log; FILE:labels (or linear, nearest, bspline) sets the interpolation. A sequence of images, or of pairs
            of an image and its interpolation; see ``maxca.registration.interpolation.choose``.
        fixed_mask: mask of the fixed image: non-zero where the similarity is computed.
        moving_mask: mask of the moving image: non-zero where the similarity is computed.
        fixed_exclude: region of the fixed image that the registration ignores, such as a lesion, a resection or an
            artefact: non-zero voxels. The deformation continues into it from its surroundings, see exclude_as.
        moving_exclude: region of the moving image that the registration ignores: non-zero voxels.
        rigid: parts of the fixed image that do not bend, such as bones or an implant: labels, each of which moves
            rigidly within the deformation.
        fixed_labels: labels of the fixed image, to measure Dice; with guide=labels also to register.
        moving_labels: labels of the moving image, which are warped; with guide=labels also used to register.
        fixed_points: landmarks of the fixed image (.csv, .fcsv, .mrk.json), to measure the error in mm; with
            guide=points also to register, by their column weight, if any. Or (N, 3) world points, RAS+ mm.
        moving_points: the same landmarks in the moving image: by name where both files name them, otherwise row by
            row.
        model: a trained network whose prediction is then refined on the pair, or whose labels guide the
            optimisation: a file (.safetensors), the name of a bundled model (see maxca models list) or hf://OWNER/NAME
            on Hugging Face; none: the pair is optimised from scratch; auto: the first bundled model that was trained on
            such images and passes the acceptance check on the pair. Or a loaded ``Model`` or ``Segmenter``.
        preset: settings for a kind of images. longitudinal: one subject at two times. A rigid transform takes the
            place of the affine, both images are treated alike (halfway space), no model is used by default, and the
            change of volume in percent is written too (volume_change.nii.gz).
        transform: transform model: rigid, affine, or deformable, which is an affine and a deformation field.
        initial_transform: initial transform: a file (fixed world points → moving world points), header (the
            positions in the files) or center (aligned centres of mass). By default the latter two are tried. Or a
            ``Chain``.
        search: search for the initial rotation among all rotations. on: always; off: never; auto: if none of up to
            50° from the headers fits, and neither initial_transform (a file or header) nor guide=points gives one.
        matrix_convention: convention of a text file with a bare 4x4 matrix. ras: fixed to moving, RAS mm (greedy,
            NiftyReg). fsl: FLIRT's -omat.
        effort: trade-off between time and accuracy.
        similarity: similarity measure that the deformation maximises: lncc (images of one contrast), mind or mi
            (two contrasts, such as T1 and T2; mind takes longer) or mse (same scanner and units). auto: lncc, with mi
            where the contrasts differ or coarse trials increase the smoothness. The affine supports all of them. Of
            several channels, one for all or one for each: lncc,mi. Or a sequence of names.
        channel_weights: weight of each of several channels, such as 1,0.5; equal by default. The weighted sum of
            their similarities is maximised; if they have different similarity measures, the forces of these are scaled
            to one size first. A channel of weight 0 is only warped. A sequence of numbers.
        guide: given data of both images that guide the deformation together with the similarity, instead of only
            being measured; may be repeated. labels: those of fixed_labels and moving_labels, few or many. points:
            fixed_points and moving_points, from which the affine also starts. A sequence of names.
        label_table: names of the labels, for the report and messages: a BIDS look-up table (.tsv), a .csv with the
            columns index and name, or a color table of FreeSurfer, 3D Slicer or ITK-SNAP. A column weight, from 0 up,
            says how much each label guides with guide=labels.
        exclude_as: how the deformation fills what fixed_exclude and moving_exclude exclude. smooth: by what its
            surroundings do. volume: its volume is kept, by an affine map of it. rigid: it is moved and rotated only.
        restrict: axes of the fixed grid along which the deformation moves points, 1 for yes and 0 for no: 0x1x0
            moves them along the second axis only, such as the phase-encoding axis of an EPI. No affine is estimated
            then: the initial transform, by default the headers, is kept.
        max_displacement: largest displacement of the deformation, in mm: no point moves farther from where the
            affine puts it.
        smoothness: regularisation: Gaussian σ of the update, in mm; larger is smoother. By default twice the
            smallest spacing, in a slice three times; three times as much between different contrasts, twice as much
            with the longitudinal preset; and two or four times as much if coarse trials without a model or guides show
            that the pair does not support the default.
        uncertainty: number of further runs of the deformation with noise added and the smoothness changed, such as
            8; how much they agree is written as a map in mm (uncertainty.nii.gz).
        fill: value outside the field of view of the moving image; by default its background (0 in most MR images,
            -1024 in CT). Labels are always 0 there.
        device: auto uses the GPU if there is one.
        threads: CPU threads; by default one for each core.
        seed: random seed of the sampling; output is reproducible for a given seed and number of threads.
        progress: called with what is being done and the share of the work done.

    Returns:
        Transforms (fixed world points → moving world points, and the inverse), warped images, metrics and record.

    Raises:
        MaxcaError: for input that cannot be registered, in one line that says what to do.
    """
    given = locals()
    options = RegistrationOptions(**{name: given[name] for name in RegistrationOptions.__dataclass_fields__})
    return _register(
        SideInputs(fixed, fixed_mask, fixed_labels, fixed_points, fixed_exclude, rigid),
        SideInputs(moving, moving_mask, moving_labels, moving_points, moving_exclude),
        options,
        apply=apply,
        monitor=Monitor(progress),
    )
