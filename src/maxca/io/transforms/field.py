"""Displacement fields in NIfTI files of ANTs, ITK, greedy, SPM, NiftyReg, FSL and AFNI, recognised by their headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxca.errors import MaxcaError
from maxca.geometry import Chain, DenseField, Grid
from maxca.io.itk import refuse_shear
from maxca.io.nifti import load_nifti, nifti_grid, open_nifti
from maxca.io.nifti_writing import as_nifti, save_as_it_is, save_nifti
from maxca.io.transforms.afni import is_afni, read_qwarp
from maxca.io.transforms.frames import node_positions
from maxca.io.transforms.fsl import is_fsl, read_fnirt
from maxca.io.transforms.parts import itk_vectors, written_dimension

DISPLACEMENT_RAS, VECTOR = 1006, 1007  # NIfTI intents; the first is DISPVECT
KNOWN = (
    "those of ANTs, ITK and greedy have the shape (X, Y, Z, 1, 3), intent 1007 (LPS mm) or 1006 (RAS mm) and no name"
)
# Unsupported values of intent_p1 of a NiftyReg transform, from its _reg_maths.h.
NIFTYREG = {
    2: "a grid of cubic B-splines",
    3: "a velocity field",
    4: "a velocity field",
    5: "a grid of velocities",
    6: "a grid of linear splines",
}


def read_field(path: Path, images: tuple[Grid, Grid] | None = None) -> Chain:
    """A displacement field from fixed to moving world points, of two dimensions if its vectors have two components.

    Args:
        path: the file.
        images: the grids of the fixed and the moving image, if known; required for FSL.

    Raises:
        MaxcaError: for a file that is damaged, or a field whose header does not define its convention.
    """
    # Not through ITK, which silently reads a truncated NIfTI as zeros.
    nifti = open_nifti(path)
    if not hasattr(nifti.header, "extensions"):
        raise MaxcaError(f"{path}: not a NIfTI file of a displacement field; convert it first")
    grid = nifti_grid(nifti, path)
    unit = nifti.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise MaxcaError(
            f"{path}: its header is in {unit}s, and programs differ on the unit of its vectors; write both in mm "
            "(nibabel: header.set_xyzt_units('mm'))"
        )
    if is_fsl(nifti, _text(nifti.header["descrip"])):
        return read_fnirt(nifti, path, images)
    if is_afni(nifti):
        return read_qwarp(nifti, path, images)
    meaning = _meaning(nifti, path)
    components = nifti.shape[4]
    vectors = np.zeros((3, *grid.shape), dtype=np.float32)
    vectors[:components] = np.moveaxis(load_nifti(nifti, path)[:, :, :, 0], -1, 0)
    if meaning == "positions":
        vectors = _displacements(vectors.astype(np.float64), grid, components)
    elif meaning == "lps":
        vectors[:2] = -vectors[:2]
    field = DenseField(torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)), grid)
    return Chain((field,), 2 if components == 2 else 3)


def write_field(chain: Chain, path: Path, grid: Grid | None) -> None:
    """Write a chain as one displacement NIfTI: 5-D, intent 1007, LPS mm; in the plane (I, J, 1, 1, 2), as ANTs does.

    ITK does not support sheared grids: the nodes are then those of an orthogonal grid around it.

    Raises:
        MaxcaError: for an affine without a grid, a field on a sheared grid, or a file that cannot be written.
    """
    fields = [step for step in chain.steps if isinstance(step, DenseField)]
    if grid is None and not fields:
        raise MaxcaError(
            f"{path}: an affine has no grid to sample a field on; pass reference=FILE, or write the file as .h5, .tfm "
            "or .mat"
        )
    grid = fields[0].grid if grid is None else grid.upright
    refuse_shear(grid, path)
    field = _field_on(chain, grid)
    components = written_dimension(Chain((field,), chain.dimension))
    save_nifti(itk_vectors(field)[:, :, :, None, :components], grid, path, intent="vector")


def write_spm(chain: Chain, path: Path, grid: Grid) -> None:
    """Write a chain as SPM's deformation ``y_*.nii``: positions in moving space, RAS mm, on a grid in fixed space."""
    displacement = np.moveaxis(_field_on(chain, grid).displacement.double().cpu().numpy(), 0, -1)
    nifti = as_nifti(_five(node_positions(grid) + displacement), grid, intent="vector")
    nifti.header["intent_name"], nifti.header["descrip"] = b"Mapping", b"Deformation"
    save_as_it_is(nifti, path)


def write_niftyreg(chain: Chain, path: Path, grid: Grid) -> None:
    """Write a chain as a displacement field of NiftyReg, RAS mm, on a grid in fixed space."""
    field = _field_on(chain, grid)
    displacement = np.moveaxis(field.displacement.cpu().numpy(), 0, -1)
    components = written_dimension(Chain((field,), chain.dimension))
    nifti = as_nifti(_five(displacement[..., :components]), grid, intent="vector")
    nifti.header["intent_name"], nifti.header["intent_p1"] = b"NREG_TRANS", 1
    save_as_it_is(nifti, path)


def _field_on(chain: Chain, grid: Grid) -> DenseField:
    """A chain as one field; a field on this grid as it is."""
    (step, *others) = chain.steps or (None,)
    return step if not others and isinstance(step, DenseField) and step.grid == grid else chain.field_on(grid)


def _five(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors[:, :, :, None], dtype=np.float32)


def _meaning(nifti: Any, path: Path) -> str:
    """``"lps"`` or ``"ras"`` displacements, or ``"positions"`` in RAS, according to the header."""
    header = nifti.header
    intent = int(header["intent_code"])
    name, note = (_text(header[field]) for field in ("intent_name", "descrip"))
    shape = tuple(nifti.shape)
    fits = len(shape) == 5 and shape[3] == 1 and (shape[4] == 3 or (shape[4] == 2 and shape[2] == 1))
    if not fits or intent not in (DISPLACEMENT_RAS, VECTOR):
        raise MaxcaError(
            f"{path}: not a known kind of displacement field, with shape {shape} and intent {intent}: {KNOWN}; "
            "convert it to one of these"
        )
    if name.startswith("NREG"):
        return _niftyreg_meaning(name, float(header["intent_p1"]), path)
    words = note.lower()
    if "velocity" in words or "flow field" in words:
        raise MaxcaError(f"{path}: a velocity field ({note!r}); integrate it to a deformation first (SPM: y_*.nii)")
    if name == "Mapping" or (not name and words.startswith(("deformation", "inverse deformation"))):
        return "positions"  # SPM's y_ and iy_ files
    if name:
        raise MaxcaError(
            f"{path}: its intent name {name!r} is unknown, and therefore the convention of its vectors: {KNOWN}; "
            "convert it to one of these"
        )
    return "lps" if intent == VECTOR else "ras"


def _niftyreg_meaning(name: str, kind: float, path: Path) -> str:
    if name == "NREG_TRANS" and kind in (0, 1):
        return "ras" if kind else "positions"
    what = NIFTYREG.get(int(kind), "a transform") if name == "NREG_TRANS" and np.isfinite(kind) else "a transform"
    raise MaxcaError(
        f"{path}: {what} of NiftyReg ({name}, {kind:g}), not a displacement field; write one first: reg_transform -ref "
        "FIXED -disp THIS_FILE displacement.nii.gz"
    )


def _text(field: Any) -> str:
    return bytes(field.tobytes()).split(b"\0")[0].decode("latin-1").strip()


def _displacements(positions: np.ndarray, grid: Grid, components: int) -> np.ndarray:
    """Displacement of each node to its position: (3, I, J, K), RAS mm; zero along axes without positions."""
    found = positions - np.moveaxis(node_positions(grid), -1, 0)
    found[components:] = 0
    return found
