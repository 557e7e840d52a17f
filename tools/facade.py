"""Write src/maxca/registration/facade.py: `maxca.register` with a keyword for each option of src/maxca/options.py.

    python tools/facade.py

A test holds that the file is what this makes.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import MISSING
from pathlib import Path

from maxca.fields import Option, options_of
from maxca.options import RegistrationInputs, RegistrationOptions

TARGET = Path(__file__).parents[1] / "src" / "maxca" / "registration" / "facade.py"
TYPES = {
    "apply": "Sequence[ImageLike | tuple[ImageLike, InterpolationChoice]]",
    "model": "str | Path | Model",
    "initial_transform": "str | Path | Chain | None",
    "transform": "TransformName",
    "search": "SearchName",
    "matrix_convention": "MatrixConvention | None",
    "effort": "EffortName",
    "device": "DeviceName",
    "guide": "Sequence[GuideName]",
    "preset": "PresetName | None",
    "label_table": "str | Path | None",
    "exclude_as": "FilledName",
    "restrict": "str | None",
    "similarity": "str | Sequence[str]",
    "channel_weights": "Sequence[float]",
    "max_displacement": "float | None",
    "smoothness": "float | None",
    "uncertainty": "int | None",
    "fill": "float | None",
    "threads": "int | None",
    "seed": "int",
}
HEAD = '''"""``maxca.register``: the options of a registration as keywords. Made by tools/facade.py; do not edit."""

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
{keywords}
    progress: Progress = lambda _stage, _share: None,
) -> Result:
    """Align a moving image to a fixed one.

    Args:
{documented}
        progress: called with what is being done and the share of the work done.

    Returns:
        Transforms (fixed world points → moving world points, and the inverse), warped images, metrics and record.

    Raises:
        MaxcaError: for input that cannot be registered, in one line that says what to do.
    """
    given = locals()
    options = RegistrationOptions(**{{name: given[name] for name in RegistrationOptions.__dataclass_fields__}})
    return _register(
        SideInputs(fixed, fixed_mask, fixed_labels, fixed_points, fixed_exclude, rigid),
        SideInputs(moving, moving_mask, moving_labels, moving_points, moving_exclude),
        options,
        apply=apply,
        monitor=Monitor(progress),
    )
'''


def text() -> str:
    """The file."""
    inputs, options = options_of(RegistrationInputs), options_of(RegistrationOptions)
    keywords = [each for each in (*inputs, *options) if each.default is not MISSING]
    return HEAD.format(
        keywords="\n".join(f"    {each.name}: {kind(each)} = {default(each)}," for each in keywords),
        documented="\n".join(documented(each) for each in (*inputs, *options)),
    )


def kind(option: Option) -> str:
    """The annotation of a keyword."""
    if option.name in TYPES:
        return TYPES[option.name]
    return "str | Path | np.ndarray | Points | None" if option.name.endswith("_points") else "ImageLike | None"


def default(option: Option) -> str:
    """The default of a keyword."""
    return f'"{option.default}"' if isinstance(option.default, str) else repr(option.default)


def documented(option: Option) -> str:
    """The paragraph of a keyword in the docstring."""
    said = " ".join(part for part in (option.about.help, option.about.in_python) if part)
    said = said[0].lower() + said[1:] if not re.match(r"[A-Z]{2}|\(", said) else said
    lines = textwrap.wrap(f"{option.name}: {said}", width=108, break_on_hyphens=False)
    return "\n".join("        " + ("    " if number else "") + line for number, line in enumerate(lines))


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
