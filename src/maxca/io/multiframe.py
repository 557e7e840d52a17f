"""Multi-frame DICOM (enhanced CT, MR, PET, …): a file with a position for each of its frames."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from pydicom import Dataset, config

from maxca.errors import MaxcaError
from maxca.io.dicomfile import FRAMES, READ_ERRORS, Frame, Header, Slice, damaged, described, real

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
SAME_PLACE = 0.01  # of a pixel: frames closer than this are at one position
# What distinguishes frames at one position: the tag, where it is, and its name in the message.
AXES = (
    ("TemporalPositionIndex", "FrameContentSequence", "time"),
    ("EffectiveEchoTime", "MREchoSequence", "echo time"),
    ("DiffusionBValue", "MRDiffusionSequence", "b-value"),
    ("FrameType", "MRImageFrameTypeSequence", "frame type"),
    ("FrameType", "CTImageFrameTypeSequence", "frame type"),
)


def frames_of(path: Path, header: Header) -> list[Slice]:
    """The frames of a multi-frame file as slices, in the order of the file.

    Raises:
        MaxcaError: for a file that is damaged, whose frames have no position, or are several volumes.
    """
    if header.tags.get("SOPClassUID") == SEGMENTATION:
        raise MaxcaError(f"{path}: a DICOM segmentation, which is not an image; convert it to NIfTI")
    if FRAMES not in header.tags:
        raise MaxcaError(
            f"{path}: {str(header.tags.get('NumberOfFrames'))[:12]} frames without positions, such as a film; convert "
            "the one that you need to an image"
        )
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            groups = list(header.tags[FRAMES].value)
            shared = next(iter(header.tags.get("SharedFunctionalGroupsSequence") or []), Dataset())
            if len(groups) != int(header.tags.NumberOfFrames):
                raise ValueError
            found = [_frame(path, group, shared) for group in groups]
            slices = described(path, header, found)
            _check_one_volume(path, groups, shared, slices)
    except READ_ERRORS as error:
        raise damaged(path) from error
    return slices


def _frame(path: Path, group: Dataset, shared: Dataset) -> Frame:
    place = _item(group, shared, "PlanePositionSequence").get("ImagePositionPatient")
    turn = _item(group, shared, "PlaneOrientationSequence").get("ImageOrientationPatient")
    spacing = _item(group, shared, "PixelMeasuresSequence").get("PixelSpacing")
    if not (place and turn and spacing):
        raise MaxcaError(f"{path}: has frames without a position in the patient; export it with its positions")
    values = _item(group, shared, "PixelValueTransformationSequence")
    scale = real(values.get("RescaleSlope"), 1.0), real(values.get("RescaleIntercept"), 0.0)
    return Frame(place, turn, spacing, scale)


def _item(group: Dataset, shared: Dataset, name: str) -> Dataset:
    """The one item of a sequence in the group of a frame, or in the one of all frames; empty without it."""
    for where in (group, shared):
        if items := where.get(name):
            item: Dataset = items[0]
            return item
    return Dataset()


def _check_one_volume(path: Path, groups: list[Dataset], shared: Dataset, slices: list[Slice]) -> None:
    """Reject files with several frames at one position, and say in what they differ.

    Raises:
        MaxcaError: for such a file.
    """
    pixel = min(slices[0].spacing) * SAME_PLACE
    places = {tuple(np.round(each.position / pixel).astype(np.int64).tolist()) for each in slices}
    if len(places) == len(slices):
        return
    found = {
        name: {str(_item(group, shared, sequence).get(tag, "")) for group in groups} for tag, sequence, name in AXES
    }
    names = dict.fromkeys(name for name, values in found.items() if len(values) > 1)
    why = f", which differ in {' and '.join(names)}" if names else ""
    raise MaxcaError(
        f"{path}: {len(slices)} frames at {len(places)} positions{why}, so it is not one volume; convert it with "
        "dcm2niix and pass one volume"
    )
