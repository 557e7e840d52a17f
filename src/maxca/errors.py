"""Errors reported in one line instead of a traceback."""

from __future__ import annotations

LONGEST = 480  # characters of a message; less than 500 with its prefix on a terminal


class MaxcaError(Exception):
    """Invalid input or a failed computation; its text names the file and says what to do.

    It is converted to one line of printable characters, because it may contain file names and texts of libraries.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""A text of any origin as one line without control sequences.

    Args:
        text: may contain line breaks, control characters or invalid bytes.
        longest: characters; of a longer text the middle is omitted, because it begins with the file and ends with the
            advice.

    Returns:
        The text with single spaces, and with escapes (``\x1b``) for non-printable characters.
    """
    line = printable(" ".join(text.split()))
    if len(line) <= longest:
        return line
    head = (longest - 3) * 2 // 3
    return f"{line[:head]} … {line[len(line) - (longest - 3 - head) :]}"


def printable(text: str) -> str:
    """The text with escapes for control characters, direction marks and lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
