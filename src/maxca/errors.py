"""What a command reports in one line instead of a traceback."""


class MaxcaError(Exception):
    """Bad input or a failed job: its text names the file and says what to do."""
