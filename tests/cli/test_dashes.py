"""Messages of the library name fields; the command line names its options instead."""

from __future__ import annotations

import pytest

from maxca.cli.dashes import dashed
from maxca.errors import MaxcaError
from maxca.fields import OptionError


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("use effort=fast, crop", "use --effort fast, crop"),
        ("pass matrix_convention=ras (greedy) or matrix_convention=fsl", None),
        ("out exists; pass overwrite=True to replace it", "out exists; pass --overwrite to replace it"),
        ("give their partners too, moving_points", "give their partners too, --moving-points"),
        ("leave initial_transform out", "leave --initial-transform out"),
        ("/data/fixed_points.csv: row 3", "/data/fixed_points.csv: row 3"),
        ("/data/effort=fast/a.nii.gz: no such file", "/data/effort=fast/a.nii.gz: no such file"),
        ("the model of similarity", "the model of similarity"),
        ("my_fixed_mask is here", "my_fixed_mask is here"),
    ],
)
def test_fields_become_options_and_names_of_files_stay(said: str, shown: str | None) -> None:
    expected = shown or "pass --matrix-convention ras (greedy) or --matrix-convention fsl"
    assert dashed(said) == dashed(MaxcaError(said)) == expected


def test_an_option_that_is_refused_is_named_with_its_value() -> None:
    assert dashed(OptionError("fixed_mask", "a.nii", "use effort=fast")) == "--fixed-mask a.nii: use --effort fast"
