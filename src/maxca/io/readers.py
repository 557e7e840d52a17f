"""Readers of images that plugins add, by the end of a file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError
from maxca.io.containers import READERS as CONTAINERS
from maxca.io.nifti import MGH_SUFFIXES, NIFTI_SUFFIXES
from maxca.io.pictures import SUFFIXES as PICTURES

BUNDLED = (*NIFTI_SUFFIXES, *MGH_SUFFIXES, *CONTAINERS, ".dcm", ".ima", *PICTURES)
READERS: dict[str, Callable[[Path], Any]] = {}  # path → what maxca.read_image takes


def read_by_plugin(path: Path) -> Any:
    """What the reader of a plugin makes of a file or folder; None where none is registered for it.

    Raises:
        MaxcaError: when the reader fails.
    """
    name = path.name.lower()
    suffix = max((each for each in READERS if name.endswith(each)), key=len, default="")
    if not suffix or not path.exists():
        return None
    try:
        image = READERS[suffix](path)
    except MaxcaError:
        raise
    except Exception as error:  # a plugin's code may fail in any way
        raise MaxcaError(f"{path}: the plugin's reader of {suffix} fails: {type(error).__name__}: {error}") from error
    if image is None or isinstance(image, str | Path):
        raise MaxcaError(f"{path}: the plugin's reader of {suffix} returns no image but {image!r}; correct it")
    return image
