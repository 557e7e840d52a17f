"""The segmentations of a pair: they guide its registration, and predict the overlap of labels that nobody has drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from maxca.engine.labels import LabelTerm
from maxca.engine.terms import Guide
from maxca.engine.volume import Volume, resampled
from maxca.geometry import Affine, Chain
from maxca.metrics import common_labels, dice
from maxca.models.segmentation import CoarseSegmentation, Segmenter


@dataclass(frozen=True, eq=False)
class SegmentedPair:
    """The segmentations of both images by one model.

    Args:
        model: of both.
        fixed: segmentation of the fixed image.
        moving: segmentation of the moving image.
    """

    model: Segmenter
    fixed: CoarseSegmentation
    moving: CoarseSegmentation

    @property
    def confidence(self) -> float:
        """That of the image that the model knows less well."""
        return min(self.fixed.confidence, self.moving.confidence)

    @property
    def accepted(self) -> bool:
        """Whether both images are like those of the model."""
        return self.confidence >= self.model.confidence

    @property
    def reason(self) -> str:
        """For the log."""
        compared = "at least" if self.accepted else "less than"
        return f"mean probability of the labels {self.confidence:.3f}, {compared} {self.model.confidence:.3g}"

    def guide(self, affine: Affine) -> Guide:
        """The agreement of the segmentations as a term.

        Args:
            affine: fixed world points → moving world points, applied after the field.
        """
        term = LabelTerm(self.fixed.vectors, self.moving.vectors, affine)
        return Guide(term, self.model.share, self.model.finest_mm)

    def inside(self, fixed: Volume | None, moving: Volume | None) -> SegmentedPair:
        """The pair that guides inside the masks of both images only.

        Args:
            fixed: the prepared fixed image; None for everywhere.
            moving: the prepared moving image; None for everywhere.
        """
        return replace(self, fixed=_inside(self.fixed, fixed), moving=_inside(self.moving, moving))

    def overlap(self, chain: Chain) -> dict[int, float]:
        """The expected Dice of each label, calibrated from that of the predictions.

        Args:
            chain: fixed world points → moving world points of the prepared images.
        """
        fixed, moving = self.fixed.classes, self.moving.classes
        warped = chain.resample(moving[None].int(), self.moving.vectors.grid, self.fixed.vectors.grid, "nearest")[0]
        present = common_labels(fixed.cpu().numpy(), moving.cpu().numpy())
        scores = dice(fixed.cpu().numpy(), warped.cpu().numpy(), present)
        offset, slope = self.model.calibration
        numbers = list(self.model.names)
        return {numbers[index]: min(max(offset + slope * score, 0.0), 1.0) for index, score in scores.items()}


def _inside(found: CoarseSegmentation, image: Volume | None) -> CoarseSegmentation:
    if image is None or image.mask is None:
        return found
    mask = resampled(Volume(image.mask, image.grid), found.vectors.grid, Chain())
    return replace(found, vectors=replace(found.vectors, mask=mask))


@torch.no_grad()
def segment_pair(model: Segmenter, fixed: Volume, moving: Volume) -> SegmentedPair:
    """Segment both images of a pair.

    Args:
        model: for both.
        fixed: prepared fixed image.
        moving: prepared moving image.
    """
    return SegmentedPair(model, *(model.coarse(model(volume)) for volume in (fixed, moving)))
