"""maxca: deformable registration of medical images.

Coordinates are world RAS+ mm. A transform maps fixed world points to moving world points, the direction in which an
image is resampled.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maxca.runtime import WAITING, environment
from maxca.version import installed_version

if TYPE_CHECKING:
    __version__: str
    from maxca import plugins
    from maxca.errors import MaxcaError
    from maxca.geometry import Affine, Chain, DenseField, Grid
    from maxca.io.images import Image
    from maxca.io.images import read as read_image
    from maxca.models.load import load_model
    from maxca.networks import build_network
    from maxca.registration.facade import register
    from maxca.registration.resampling import apply
    from maxca.registration.result import Result
    from maxca.workflows.cohort.run import cohort
    from maxca.workflows.labelling.run import label_by_atlases
    from maxca.workflows.series.organ.run import organ_motion
    from maxca.workflows.series.run import series
    from maxca.workflows.template.run import build_template

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
    "build_template",
    "cohort",
    "label_by_atlases",
    "load_model",
    "organ_motion",
    "plugins",
    "read_image",
    "register",
    "series",
]

_HOME = {
    "Affine": ("maxca.geometry", "Affine"),
    "Chain": ("maxca.geometry", "Chain"),
    "DenseField": ("maxca.geometry", "DenseField"),
    "Grid": ("maxca.geometry", "Grid"),
    "Image": ("maxca.io.images", "Image"),
    "MaxcaError": ("maxca.errors", "MaxcaError"),
    "Result": ("maxca.registration.result", "Result"),
    "apply": ("maxca.registration.resampling", "apply"),
    "build_network": ("maxca.networks", "build_network"),
    "build_template": ("maxca.workflows.template.run", "build_template"),
    "cohort": ("maxca.workflows.cohort.run", "cohort"),
    "label_by_atlases": ("maxca.workflows.labelling.run", "label_by_atlases"),
    "load_model": ("maxca.models.load", "load_model"),
    "organ_motion": ("maxca.workflows.series.organ.run", "organ_motion"),
    "read_image": ("maxca.io.images", "read"),
    "register": ("maxca.registration.facade", "register"),
    "series": ("maxca.workflows.series.run", "series"),
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``maxca --help`` does not import torch."""
    if name == "__version__":
        return installed_version()
    if name == "plugins":
        return import_module("maxca.plugins")
    if name not in _HOME:
        raise AttributeError(f"module 'maxca' has no attribute {name!r}")
    module, attribute = _HOME[name]
    with environment(**WAITING):  # read when torch is loaded
        return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """The public names only."""
    return [*__all__, "__version__"]
