"""The rigid and affine maps over which the affine registration optimises, with their gradient in closed form."""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm, expm_frechet


class Motion:
    """A linear map and a shift of parameters: the exponential keeps rotations rigid and the rest invertible.

    One unit of any parameter moves a point at ``radius`` units by about one, so that one step size suits all.

    Args:
        radius: of the points, in units.
        rigid: a rotation and a shift.
        plane: (3, 2) unit vectors of the plane of a 2-D image, within which the map acts; None in 3-D.
    """

    def __init__(self, radius: float, rigid: bool, plane: np.ndarray | None) -> None:
        self.axes = np.eye(3) if plane is None else plane
        dimension = self.axes.shape[1]
        units = np.eye(dimension * dimension).reshape(-1, dimension, dimension) / radius
        if rigid:
            upper = np.triu_indices(dimension, 1)
            units = units.reshape(dimension, dimension, dimension, dimension)[upper]
            units = units - units.transpose(0, 2, 1)
        self.generators = self.axes @ units @ self.axes.T
        self.size = dimension + len(units)

    def __call__(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The linear map (3, 3) and the shift (3,) in units."""
        return expm(self._generator(numbers)), self.axes @ numbers[: self.axes.shape[1]]

    def gradient(self, numbers: np.ndarray, of_linear: np.ndarray, of_shift: np.ndarray) -> np.ndarray:
        """The gradient of a scalar by the parameters, from those by the linear map and by the shift."""
        # The adjoint of the Fréchet derivative of the exponential at G is that at the transpose of G.
        of_generator = expm_frechet(self._generator(numbers).T, of_linear, compute_expm=False)
        return np.concatenate([self.axes.T @ of_shift, self.generators.reshape(-1, 9) @ of_generator.ravel()])

    def _generator(self, numbers: np.ndarray) -> np.ndarray:
        return (numbers[self.axes.shape[1] :] @ self.generators.reshape(-1, 9)).reshape(3, 3)
