"""SHA-256 of images and other files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.companions import files_of


def sha256(source: Path) -> str:
    """The hash of a file; for an image in several files, or a folder, that of all its files in sequence.

    Raises:
        MaxcaError: for a file that is missing, not regular, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else files_of(source):
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise MaxcaError(f"{source}: cannot be read; check its permissions") from error
    return digest.hexdigest()
