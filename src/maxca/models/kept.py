"""Models that stay in memory between registrations, by the hash of their files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from maxca.io.digest import sha256

M = TypeVar("M")
MOST = 4  # a bundled model takes 5 to 8 MB


class Keep(Protocol):
    """How a model is loaded: ``keep(load, path, device)``."""

    def __call__(self, load: Callable[[Path, torch.device], M], path: Path, device: torch.device) -> M:
        """The model in a file."""
        ...


def fresh(load: Callable[[Path, torch.device], M], path: Path, device: torch.device) -> M:
    """The model in a file, loaded now."""
    return load(path, device)


class KeptModels:
    """The models that were used last; a file that has changed is loaded again.

    Args:
        most: their largest number.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._models: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def __call__(self, load: Callable[[Path, torch.device], M], path: Path, device: torch.device) -> M:
        """The model in a file, from memory if that has the same content."""
        key = (load, str(path), sha256(path), str(device))
        if key not in self._models:
            self._models[key] = load(path, device)
        self._models.move_to_end(key)
        while len(self._models) > self.most:
            self._models.popitem(last=False)
        return self._models[key]
