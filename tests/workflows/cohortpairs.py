"""What the tests of cohorts register, and how they compare files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import phantoms

from maxca.options import RegistrationOptions

OPTIONS = RegistrationOptions(model="none", effort="fast", transform="deformable")
WHERE = phantoms.grid((4.0, 4.0, 4.0))
PATIENTS = 6


def hashes(folder: Path) -> dict[str, str]:
    """The files of an output, without those that hold times and paths."""
    files = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
