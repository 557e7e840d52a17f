"""Grids, transforms and warping in world space (RAS+, mm)."""

from maxca.geometry.bspline import BSpline
from maxca.geometry.grid import Grid
from maxca.geometry.transforms import Affine, Chain, DenseField, Residual
from maxca.geometry.warp import INTERPOLATIONS, Interpolation

__all__ = ["INTERPOLATIONS", "Affine", "BSpline", "Chain", "DenseField", "Grid", "Interpolation", "Residual"]
