"""``python -m maxca`` is the command ``maxca``."""

from maxca.cli.main import process

process()
