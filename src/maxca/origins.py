"""The plugins of registered names, to be recorded in files. Written by ``maxca.plugins``; does not import torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from maxca.errors import MaxcaError, one_line

_origins: dict[tuple[str, str], str] = {}


class UnknownName(MaxcaError, ValueError):
    """An unknown name.

    Args:
        kind: ``"block"``, ``"network"``, ….
        name: the unknown name.
        known: the registered names.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; choose one of {', '.join(known)}")
        self.kind, self.name = kind, name

    def from_plugins(self, files: Sequence[str]) -> UnknownName:
        """An error for a name from a plugin that is not loaded.

        Args:
            files: names of the recorded plugins.
        """
        if files:
            named = shlex.join(word for file in files for word in ("--plugin", file))
            text = f"the {self.kind} {self.name!r} is defined by a plugin; pass {named} (in Python: maxca.plugins.load)"
            self.args = (one_line(text),)
        return self


def record_origin(kind: str, name: str, plugin: str) -> None:
    """Record the plugin of a name, by its file name."""
    _origins[kind, name] = plugin


def forget_origin(kind: str, name: str) -> None:
    """Remove such a record."""
    _origins.pop((kind, name), None)


def origin(kind: str, name: object) -> str | None:
    """The name of the plugin's file; None for bundled names or those registered without a file."""
    return _origins.get((kind, name)) if isinstance(name, str) else None
