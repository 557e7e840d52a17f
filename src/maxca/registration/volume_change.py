"""Local change of volume of one subject between two times."""

from __future__ import annotations

import numpy as np

from maxca.engine.volume import foreground
from maxca.geometry import Chain
from maxca.geometry.jacobian import jacobian_determinant
from maxca.io.images import Image
from maxca.registration.inputs import Side
from maxca.registration.measures import VolumeChange

NOTABLE = 10.0  # percent; noise alone changes fewer than 1 % of the voxels more, see experiments/longitudinal.py
COMMON = 5.0  # percent of the content


def volume_change(chain: Chain, fixed: Side) -> tuple[Image, VolumeChange]:
    """The change of volume from the fixed to the moving image at each fixed voxel, and its summary.

    Args:
        chain: fixed world points → moving world points.
        fixed: the fixed side; changes of its labels are those of their volumes.

    Returns:
        (I, J, K) percent, positive where the moving image is larger; and the summary over the content inside the mask.
    """
    image = fixed.image
    percent = (100 * (jacobian_determinant(chain, image.grid) - 1)).cpu().numpy()
    found = percent[measured_content(fixed)]
    by_label = {}
    if fixed.labels is not None:
        for label in np.unique(fixed.labels[fixed.labels != 0]):
            by_label[str(label)] = float(percent[fixed.labels == label].mean())
    summary = VolumeChange(
        mean_percent=float(found.mean()),
        p05_percent=float(np.percentile(found, 5)),
        p95_percent=float(np.percentile(found, 95)),
        notable_percent=float(100 * (np.abs(found) > NOTABLE).mean()),
        by_label=by_label,
    )
    return Image(percent.astype(np.float32), image.grid, form=image.form), summary


def measured_content(side: Side) -> np.ndarray:
    """(I, J, K) bool: the content of an image inside its mask; the mask if there is none."""
    content = foreground(side.image.data)
    if side.compared is None:
        return content
    return content & side.compared if (content & side.compared).any() else side.compared


def noticed(change: VolumeChange) -> list[str]:
    """A warning where much of the content changes its volume."""
    if change.notable_percent < COMMON:
        return []
    return [
        f"the volume changes by more than {NOTABLE:g} % in {change.notable_percent:.0f} % of the content, more than "
        "between two scans of one day; inspect volume_change.nii.gz"
    ]
