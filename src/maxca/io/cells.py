"""Cells of tables that spreadsheets open: a name is a name there, and no formula."""

from __future__ import annotations

from maxca.errors import printable

FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what a cell begins with that is computed on opening


def neutral(text: str) -> str:
    """A text that no spreadsheet computes and no terminal obeys; a number stays as it is.

    An apostrophe is put before what would be a formula, as spreadsheets themselves mark text; done
    twice, nothing more changes.
    """
    text = printable(text)
    if not text.startswith(FORMULAS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
