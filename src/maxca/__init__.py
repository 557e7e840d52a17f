"""maxca: deformable registration of medical images.

Coordinates are world RAS+ mm. A transform maps fixed world points to moving world points, the direction in which an
image is resampled.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from maxca.errors import MaxcaError
    from maxca.geometry import Affine, Chain, DenseField, Grid
    from maxca.io.images import Image
    from maxca.io.images import read as read_image
    from maxca.networks import build_network
    from maxca.registration import register
    from maxca.resampling import apply
    from maxca.result import Result
    from maxca.zoo.models import load_model

__all__ = [
    "Affine",
    "Chain",
    "DenseField",
    "Grid",
    "Image",
    "MaxcaError",
    "Result",
    "apply",
    "build_network",
    "load_model",
    "read_image",
    "register",
]

_HOME = {
    "Affine": ("maxca.geometry", "Affine"),
    "Chain": ("maxca.geometry", "Chain"),
    "DenseField": ("maxca.geometry", "DenseField"),
    "Grid": ("maxca.geometry", "Grid"),
    "Image": ("maxca.io.images", "Image"),
    "MaxcaError": ("maxca.errors", "MaxcaError"),
    "Result": ("maxca.result", "Result"),
    "apply": ("maxca.resampling", "apply"),
    "build_network": ("maxca.networks", "build_network"),
    "load_model": ("maxca.zoo.models", "load_model"),
    "read_image": ("maxca.io.images", "read"),
    "register": ("maxca.registration", "register"),
}


def __getattr__(name: str) -> Any:
    """Load on first use: ``maxca --help`` must not wait for torch."""
    if name == "__version__":
        try:
            return version("maxca")
        except PackageNotFoundError:  # run from its source folder
            return "unknown (not installed)"
    if name not in _HOME:
        raise AttributeError(f"module 'maxca' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)
