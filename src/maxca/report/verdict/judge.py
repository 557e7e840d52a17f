"""From measurements to a verdict: thresholds, causes and cures.

Every threshold is a ratio, or a distance in units of voxels and extent (``CoarsePair.unit``), and was chosen on the
development half of the trials of ``experiments/verdict.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from maxca.geometry import Affine
from maxca.report.verdict.check import Check, Verdict, graded
from maxca.report.verdict.evidence import DOUBTFUL, Evidence, Registered, gather
from maxca.report.verdict.given import of_labels, of_masks, of_points

# (acceptable from here on, a failure from here on)
AS_GOOD_AS_AGAIN = (0.85, 0.65)
OVER_AFFINE = (0.95, 0.8)
OVER_HEADER = (0.97, 0.85)
OVER_TURNED = (1.05, 1.0)
MIRRORED = (1.002, 1.004)
APART = (2.75, 3.25)
CHANGE_OF_VOLUME = (7.0, 50.0)
STRETCH = (1.75, 4.0)
GROWN = (1.35, 1.6)  # times the volume, to cover what the other image alone has
SEEN = (0.25, 0.1)
FOLDED = (0.1, 1.0)  # % of the volume
INVERSE = (0.5, 2.0)  # voxels
ONE_SIDED = 0.1  # of the bright parts
SWALLOWED = 0.08  # of the bright parts, too
SEVERAL = 2  # doubts
TURN = 20.0  # degrees that are worth a word


def judge(case: Registered) -> Verdict:
    """Measure a registration and judge it: a second or two, on one thread, whatever torch is set to.

    The lattices are so small that threads would wait for one another, and numbers do not depend on how many there are.
    """
    with one_thread():
        return Verdict((*judged(gather(case)), *_recorded(case)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch works on one thread within, and on as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def judged(found: Evidence) -> tuple[Check, ...]:
    """What the measurements say."""
    checks = (*_alike(found), *_placed(found), *_shaped(found))
    return (*checks, *_shown(found), together(checks))


def together(checks: Sequence[Check]) -> Check:
    """Measurements that have little to do with one another: one may be off by chance, several are not."""
    doubts = [check.name for check in checks if check.state == "check"]
    finding = f"{len(doubts)} of {len(checks)} measurements are in doubt; {SEVERAL} or more are a failure"
    if len(doubts) >= SEVERAL:
        finding += f": {', '.join(doubts)}. Look at each of them"
    return Check("several doubts", "failed" if len(doubts) >= SEVERAL else "aligned", finding)


def _alike(found: Evidence) -> Iterator[Check]:
    share = found.agreement / max(found.again.deformed, 1e-9)
    yield graded(
        "agreement",
        share,
        *AS_GOOD_AS_AGAIN,
        f"mutual information is {share:.2f} times what a coarse registration from here reaches",
        "The result is off its place: register again without --initial-transform, or with --effort accurate",
    )
    gain = found.agreement / max(found.affine_agreement, 1e-9)
    yield graded(
        "deformation",
        gain,
        *OVER_AFFINE,
        f"mutual information is {gain:.2f} times that of the affine part alone",
        "The deformation follows something other than anatomy: larger --smoothness, or --transform affine",
    )
    over = found.agreement / max(found.header_agreement, 1e-9)
    yield graded(
        "before registration",
        min(over, 99.0),
        *OVER_HEADER,
        f"mutual information is {min(over, 99.0):.2f} times that before registration",
        "The images agreed better as their headers place them: --initial-transform header",
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
        f"mutual information is {ratio:.2f} times what the best other orientation{better} reaches with equal freedom",
        "Either the images have nothing in common (another organ, noise), or one is turned: check the header's "
        "orientation, or begin with a rough transform (--initial-transform FILE)",
    )
    yield graded(
        "mirroring",
        found.mirrored,
        *MIRRORED,
        f"the mirrored moving image reaches {found.mirrored:.3f} times the mutual information",
        "The moving image seems to be mirrored, left and right swapped or another axis reversed: check the conversion "
        "of its file and its header's orientation",
    )
    yield graded(
        "forward and backward",
        found.apart[0],
        *APART,
        f"a coarse registration in the other direction ends {found.apart[0]:.1f} units of {found.unit:.3g} mm away "
        "(median)",
        "At least one of the two is wrong: look for a start that is too far, or too small a common field of view; "
        "--initial-transform FILE begins elsewhere",
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
        "A lesion, a cavity or a part that only one image has may have been swallowed: leave it out by --fixed-mask or "
        "--moving-mask, or use larger --smoothness",
    )
    motion = found.motion
    stretch = max(motion.largest, 1 / max(motion.smallest, 1e-6))
    yield graded(
        "scale and rotation",
        stretch,
        *STRETCH,
        f"the affine part scales by {motion.smallest:.2f} to {motion.largest:.2f}, turns by {motion.degrees:.0f}° and "
        f"moves the centre by {motion.mm:.3g} mm",
        "Check the voxel sizes in both headers",
    )
    yield _size(found)


def _size(found: Evidence) -> Check:
    """Whether one image was made larger to cover what the other alone has."""
    smaller = found.motion.volume < 1
    change = found.motion.volume if not smaller else 1 / max(found.motion.volume, 1e-6)
    share = found.swallowed[0] if smaller else found.swallowed[1]
    side, other = ("fixed", "moving") if smaller else ("moving", "fixed")
    told = f"the affine part makes the {other} image {change:.2f} times as large by volume"
    if share < SWALLOWED:
        return Check("size", "aligned", f"{told}; nothing that one image alone has explains it")
    return graded(
        "size",
        change,
        *GROWN,
        f"{told}; if it kept its size, {share:.0%} more of the {side} image's bright parts would lie outside of its "
        "content",
        f"It may have been stretched over a skull, or another part, that the {side} image alone has: strip both or "
        "neither, or mask it",
    )


def _shown(found: Evidence) -> Iterator[Check]:
    yield graded(
        "field of view",
        found.seen,
        *SEEN,
        f"a share of {found.seen:.2f} of the fixed image's content lies in the moving image's field of view; only "
        "there was the result judged",
        "Crop the fixed image to what both show",
    )
    share = max(found.fixed_only, found.moving_only)
    side, other = ("fixed", "moving") if found.fixed_only > found.moving_only else ("moving", "fixed")
    pulls = share >= ONE_SIDED and found.apart_with_all[0] > APART[0] and found.apart[0] > DOUBTFUL
    told = f"{share:.0%} of the {side} image's bright parts lie outside the {other} image's content"
    cure = (
        f". The {side} image may have a skull, or another part, that the {other} one lacks, and it pulls: strip both "
    )
    yield Check(
        "content on one side",
        "check" if pulls else "aligned",
        told + (f"{cure}or neither, or mask it" if pulls else ""),
    )


def _recorded(case: Registered) -> Iterator[Check]:
    """What ``register`` measured itself."""
    metrics = case.record["metrics"]
    folded = metrics["folding"]["ndv_percent"]
    yield graded("folding", folded, *FOLDED, f"{folded:.3g} % of the volume is folded", "Larger --smoothness")
    mm = metrics["inverse_consistency_mm"]["mean"]
    voxels = mm / case.fixed.image.grid.largest_spacing
    yield graded("inverse", voxels, *INVERSE, f"the inverse misses by {mm:.2g} mm, {voxels:.2g} voxels, on average")
    yield from of_masks(case)
    yield from of_labels(case)
    yield from of_points(case)


def _turn(affine: Affine) -> str:
    """How an affine turns, in words."""
    left, _, right = np.linalg.svd(affine.matrix[:3, :3])
    turn = left @ right
    vector = Rotation.from_matrix(turn if np.linalg.det(turn) > 0 else -turn).as_rotvec(degrees=True)
    degrees = float(np.linalg.norm(vector))
    if degrees < TURN:
        return "as the headers have it"
    axis = ("left–right", "posterior–anterior", "inferior–superior")[int(np.abs(vector).argmax())]
    return f"turned by about {degrees:.0f}° around the {axis} axis"
