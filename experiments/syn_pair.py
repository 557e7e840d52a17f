"""SyN of ANTs on a pair of images in memory, with masks, on one thread; for experiments that compare with it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # read when ANTs is loaded

from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.io.transforms import read_transform


class Maps(NamedTuple):
    """The map found by SyN, fixed world points → moving world points, and its inverse."""

    chain: Chain
    inverse: Chain


def syn(fixed: Image, moving: Image, fixed_mask: Image | None = None, moving_mask: Image | None = None) -> Maps:
    """``ants.registration(type_of_transform="SyN")`` with its defaults; masks, if any, at all stages.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        fixed_mask: non-zero where the similarity is computed (cost-function masking).
        moving_mask: non-zero where the similarity is computed.
    """
    import ants

    with tempfile.TemporaryDirectory() as place:
        read = {}
        for name, image in (("f", fixed), ("m", moving), ("mask", fixed_mask), ("moving_mask", moving_mask)):
            if image is not None:
                path = Path(place) / f"{name}.nii.gz"
                image.save(path)
                read[name] = ants.image_read(str(path))
        masks = {name: read[name] for name in ("mask", "moving_mask") if name in read}
        prefix = f"{place}/syn_"
        ants.registration(
            read["f"], read["m"], "SyN", outprefix=prefix, random_seed=1, mask_all_stages=bool(masks), **masks
        )
        affine = read_transform(f"{prefix}0GenericAffine.mat")
        warp, inverse = (read_transform(f"{prefix}1{name}.nii.gz") for name in ("Warp", "InverseWarp"))
        return Maps(affine @ warp, inverse @ affine.inverse()[0])
