"""The two coordinate systems in which files store world points: RAS and LPS."""

from __future__ import annotations

import re
from typing import Literal

from maxca.errors import MaxcaError

Space = Literal["ras", "lps"]
HELP = (
    "Coordinates of a surface whose file does not declare them: ras (nibabel, Workbench, FreeSurfer's scanner RAS) or "
    "lps (ITK, DICOM, 3D Slicer since 4.11)."
)
ASK = "pass space=ras or space=lps (ITK, DICOM, 3D Slicer)"
SIGNS = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0)}  # from and to RAS
COMMENT = re.compile(rb"\bSPACE\s*=\s*(\w{1,40})")  # as 3D Slicer declares it in the comment of a mesh


def known_space(space: object, where: str) -> str:
    """The name of a coordinate system, ``"RAS"`` or ``"LPS"``.

    Raises:
        MaxcaError: for another one.
    """
    if space not in SIGNS:
        raise MaxcaError(f"{where}: the coordinate system {str(space)[:40]} is unknown; use RAS or LPS")
    return str(space)


def declared_in(comment: bytes) -> str | None:
    """The coordinate system in the comment of a mesh, ``SPACE=LPS``; None without one."""
    found = COMMENT.search(comment)
    return found[1].decode("ascii", errors="replace").upper() if found else None
