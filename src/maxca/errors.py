"""What a command reports in one line instead of a traceback."""

from __future__ import annotations

LONGEST = 480  # characters of a message; what stands around it on a terminal comes to less than 500 in all


class MaxcaError(Exception):
    """Bad input or a failed job: its text names the file and says what to do.

    Names of files and texts of libraries stand in it, so it becomes one line of printable characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""A text of any origin as one line that a terminal prints and does not obey.

    Args:
        text: what may hold line breaks, control characters or bytes that are no text.
        longest: characters; of a longer text the middle is left out, since it begins with the file and ends with what
            to do.

    Returns:
        The text with single spaces, and with escapes (``\x1b``) for what is not printable.
    """
    line = printable(" ".join(text.split()))
    if len(line) <= longest:
        return line
    head = (longest - 3) * 2 // 3
    return f"{line[:head]} … {line[len(line) - (longest - 3 - head) :]}"


def printable(text: str) -> str:
    """The text with escapes for control characters, direction marks and lone surrogates."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
