"""Displacement fields of the frames of a series on one lattice, kept in files: one is in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from maxca.geometry import Chain, DenseField, Grid
from maxca.io.atomic import atomic_path

AT_ONCE = 16_000_000  # numbers of all frames together that are smoothed at once


@dataclass(frozen=True, eq=False)
class StoredFields:
    """A field for each frame, in a file each.

    Args:
        folder: of the files.
        grid: of the nodes, in the space of the frames.
        count: of frames.
    """

    folder: Path
    grid: Grid
    count: int

    def __contains__(self, number: int) -> bool:
        return self._path(number).is_file()

    def __getitem__(self, number: int) -> DenseField:
        return DenseField(torch.from_numpy(np.load(self._path(number))), self.grid)

    def store(self, number: int, field: DenseField) -> None:
        """Keep the field of a frame, on any grid."""
        on_nodes = field if field.grid.same_as(self.grid) else Chain((field,)).field_on(self.grid)
        with atomic_path(self._path(number)) as unfinished, unfinished.open("wb") as stream:
            np.save(stream, on_nodes.displacement.float().cpu().numpy())

    def combined(self, matrix: np.ndarray, folder: Path) -> StoredFields:
        """Linear combinations of the fields, such as smooth ones; in parts, whatever the number of frames.

        Args:
            matrix: (T, T), a row for each result.
            folder: of the results.
        """
        found = StoredFields(folder, self.grid, self.count)
        folder.mkdir(parents=True, exist_ok=True)
        size = 3 * int(np.prod(self.grid.shape))
        step = max(1, AT_ONCE // self.count)
        paths = [found._path(number) for number in range(self.count)]
        for path in paths:
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(3, *self.grid.shape)).flush()
        for start in range(0, size, step):
            part = slice(start, start + step)
            values = np.stack([self._numbers(number)[part] for number in range(self.count)])
            smooth = (matrix @ values.astype(np.float64)).astype(np.float32)
            for path, row in zip(paths, smooth, strict=True):
                np.load(path, mmap_mode="r+").reshape(-1)[part] = row
        return found

    def _numbers(self, number: int) -> np.ndarray:
        return np.asarray(np.load(self._path(number), mmap_mode="r").reshape(-1))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.npy"
