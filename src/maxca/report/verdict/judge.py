"""The checks of the verdict: thresholds, likely causes and remedies.

Every threshold is a ratio, or a distance in units of voxels and extent (``CoarsePair.unit``), and was chosen on the
development half of the trials of ``experiments/verdict.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine
from maxca.report.verdict.check import Check, Verdict, graded
from maxca.report.verdict.evidence import DOUBTFUL, Evidence, Registered, gather
from maxca.report.verdict.given import of_bodies, of_labels, of_masks, of_points, of_predicted_labels
from maxca.runtime import tuned

# (threshold of acceptance, threshold of failure)
AS_GOOD_AS_AGAIN = (0.85, 0.65)
OVER_AFFINE = (0.95, 0.8)
OVER_HEADER = (0.97, 0.85)
OVER_TURNED = (1.05, 1.0)
MIRRORED = (1.002, 1.004)
APART = (2.75, 3.25)
CHANGE_OF_VOLUME = (7.0, 50.0)
STRETCH = (1.75, 4.0)
GROWN = (1.35, 1.6)  # times the volume, to cover content of the other image alone
SEEN = (0.25, 0.1)
FOLDED = (0.1, 1.0)  # % of the volume
INVERSE = (0.5, 2.0)  # voxels
ONE_SIDED = 0.1  # of the bright voxels
SWALLOWED = 0.08  # of the bright voxels
SEVERAL = 2  # borderline checks
TURN = 20.0  # degrees: smaller rotations are not mentioned


def judge(case: Registered) -> Verdict:
    """Compute the verdict on a registration, in one or two seconds, on one thread regardless of torch's setting.

    The grids are too small for several threads, and the numbers do not depend on the thread count.
    """
    with tuned(1):
        return Verdict((*judged(gather(case)), *_recorded(case)))


def judged(found: Evidence) -> tuple[Check, ...]:
    """The checks of the measurements."""
    checks = (*_alike(found), *_placed(found), *_shaped(found))
    return (*checks, *_shown(found), together(checks))


def together(checks: Sequence[Check]) -> Check:
    """Checks are nearly independent: one may be borderline by chance, several are a failure."""
    doubts = [check.name for check in checks if check.state == "check"]
    finding = f"{len(doubts)} of {len(checks)} checks are borderline; {SEVERAL} or more are a failure"
    if len(doubts) >= SEVERAL:
        finding += f": {', '.join(doubts)}. Inspect each of them"
    return Check("several borderline checks", "failed" if len(doubts) >= SEVERAL else "aligned", finding)


def _alike(found: Evidence) -> Iterator[Check]:
    share = found.agreement / max(found.again.deformed, 1e-9)
    yield graded(
        "agreement",
        share,
        *AS_GOOD_AS_AGAIN,
        f"mutual information is {share:.2f} times that of a coarse registration initialised with the result",
        "The result is misaligned: register again without --initial-transform, or with --effort accurate",
    )
    gain = found.agreement / max(found.affine_agreement, 1e-9)
    yield graded(
        "deformation",
        gain,
        *OVER_AFFINE,
        f"mutual information is {gain:.2f} times that of the affine part alone",
        "The deformation does not follow anatomy: use larger --smoothness, or --transform affine",
    )
    over = found.agreement / max(found.header_agreement, 1e-9)
    yield graded(
        "before registration",
        min(over, 99.0),
        *OVER_HEADER,
        f"mutual information is {min(over, 99.0):.2f} times that before registration",
        "The images agreed better before registration: use --initial-transform header",
    )


def _placed(found: Evidence) -> Iterator[Check]:
    ratio = math.sqrt(
        max(found.again.placed, 1e-9)
        / max(found.turned.placed, 1e-9)
        * found.agreement
        / max(found.turned.deformed, 1e-9)
    )
    better = f" ({_turn(found.turned.affine)})" if ratio <= OVER_TURNED[1] else ""
    yield graded(
        "orientation",
        ratio,
        *OVER_TURNED,
        f"mutual information is {ratio:.2f} times that of the best other orientation{better}",
        "Either the images have nothing in common (another organ, noise), or one is rotated: check the header's "
        "orientation, or start from a rough transform (--initial-transform FILE)",
    )
    yield graded(
        "mirroring",
        found.mirrored,
        *MIRRORED,
        f"the mirrored moving image has {found.mirrored:.3f} times the mutual information",
        "The moving image seems to be mirrored, left and right swapped or another axis reversed: check the conversion "
        "of its file and its header's orientation",
    )
    yield graded(
        "forward and backward",
        found.apart[0],
        *APART,
        f"a coarse registration in the other direction differs by {found.apart[0]:.1f} units of {found.unit:.3g} mm "
        "(median)",
        "At least one of the two is wrong: the initialisation may be too far off, or the common field of view too "
        "small; use --initial-transform FILE",
    )


def _shaped(found: Evidence) -> Iterator[Check]:
    worst = max(found.squeezed, found.stretched, key=lambda one: abs(math.log(max(one.factor, 1e-3))))
    change = math.exp(abs(math.log(max(worst.factor, 1e-3))))
    place = ", ".join(f"{c:.4g}" for c in worst.place)
    yield graded(
        "change of volume",
        change,
        *CHANGE_OF_VOLUME,
        f"at ({place}) mm the volume changes by a factor of {max(worst.factor, 0):.2g}"
        + (f", fourfold or more over {worst.mm3:.3g} mm³" if worst.mm3 else ""),
        "A lesion, a cavity or content of one image alone may have been collapsed: exclude it by "
        "--fixed-exclude or --moving-exclude, or use larger --smoothness",
    )
    motion = found.motion
    stretch = max(motion.largest, 1 / max(motion.smallest, 1e-6))
    yield graded(
        "scale and rotation",
        stretch,
        *STRETCH,
        f"the affine part scales by {motion.smallest:.2f} to {motion.largest:.2f}, rotates by {motion.degrees:.0f}° "
        f"and moves the centre by {motion.mm:.3g} mm",
        "Check the voxel sizes in both headers",
    )
    yield _size(found)


def _size(found: Evidence) -> Check:
    """Whether one image was enlarged to cover content of the other alone."""
    smaller = found.motion.volume < 1
    change = found.motion.volume if not smaller else 1 / max(found.motion.volume, 1e-6)
    share = found.swallowed[0] if smaller else found.swallowed[1]
    side, other = ("fixed", "moving") if smaller else ("moving", "fixed")
    told = f"the affine part makes the {other} image {change:.2f} times as large by volume"
    if share < SWALLOWED:
        return Check("size", "aligned", f"{told}; content of one image alone does not explain it")
    return graded(
        "size",
        change,
        *GROWN,
        f"{told}; without the change of size, {share:.0%} more of the {side} image's bright voxels would be outside "
        "its content",
        f"It may have been enlarged to cover a skull, or other content, of the {side} image alone: skull-strip both or "
        "neither, or use a mask",
    )


def _shown(found: Evidence) -> Iterator[Check]:
    yield graded(
        "field of view",
        found.seen,
        *SEEN,
        f"a fraction of {found.seen:.2f} of the fixed image's content is in the moving image's field of view; only "
        "this region was assessed",
        "Crop the fixed image to the common field of view",
    )
    share = max(found.fixed_only, found.moving_only)
    side, other = ("fixed", "moving") if found.fixed_only > found.moving_only else ("moving", "fixed")
    pulls = share >= ONE_SIDED and found.apart_with_all[0] > APART[0] and found.apart[0] > DOUBTFUL
    told = f"{share:.0%} of the {side} image's bright voxels are outside the {other} image's content"
    remedy = f". The {side} image may contain a skull, or other content, that the {other} one lacks: skull-strip both "
    yield Check(
        "content on one side",
        "check" if pulls else "aligned",
        told + (f"{remedy}or neither, or use a mask" if pulls else ""),
    )


def _recorded(case: Registered) -> Iterator[Check]:
    """The checks of measures computed by ``register``."""
    metrics = case.record.metrics
    folded = metrics.folding.ndv_percent
    yield graded("folding", folded, *FOLDED, f"{folded:.3g} % of the volume is folded", "Larger --smoothness")
    mm = metrics.inverse_consistency_mm.mean
    voxels = mm / case.fixed.image.grid.largest_spacing
    yield graded("inverse", voxels, *INVERSE, f"the mean error of the inverse is {mm:.2g} mm, {voxels:.2g} voxels")
    yield from of_masks(case)
    yield from of_labels(case)
    yield from of_predicted_labels(case)
    yield from of_points(case)
    yield from of_bodies(case)


def _turn(affine: Affine) -> str:
    """The rotation of an affine as text."""
    left, _, right = np.linalg.svd(affine.matrix[:3, :3])
    turn = left @ right
    vector = Rotation.from_matrix(turn if np.linalg.det(turn) > 0 else -turn).as_rotvec(degrees=True)
    degrees = float(np.linalg.norm(vector))
    if degrees < TURN:
        return "that of the headers"
    axis = ("left–right", "posterior–anterior", "inferior–superior")[int(np.abs(vector).argmax())]
    return f"rotated by about {degrees:.0f}° around the {axis} axis"
