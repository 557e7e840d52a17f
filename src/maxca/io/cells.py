"""Table cells that a spreadsheet does not interpret as formulas."""

from __future__ import annotations

from maxca.errors import printable

FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # first characters of a formula


def neutral(text: str) -> str:
    """A text that is neither a formula in a spreadsheet nor a control sequence in a terminal; a number is unchanged.

    A formula is prefixed with an apostrophe, the marker of text in spreadsheets; the function is idempotent.
    """
    text = printable(text)
    if not text.startswith(FORMULAS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
