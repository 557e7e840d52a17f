"""What a file is known by."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256(source: Path) -> str:
    """The hash of a file; of a folder, that of its files in order."""
    digest = hashlib.sha256()
    for file in sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
