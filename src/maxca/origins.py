"""Which plugin brought a name, so that a file that uses it can say so. ``maxca.plugins`` writes it; torch-free."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from maxca.errors import MaxcaError, one_line

_origins: dict[tuple[str, str], str] = {}


class UnknownName(MaxcaError, ValueError):
    """A name that nothing is registered under.

    Args:
        kind: of what: ``"block"``, ``"network"``, ….
        name: what was asked for.
        known: the names that are registered.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(f"no {kind} is called {name!r}; choose one of {', '.join(known)}")
        self.kind, self.name = kind, name

    def from_plugins(self, files: Sequence[str]) -> UnknownName:
        """The same for a name that once came with a plugin: it says which, and how to load it.

        Args:
            files: names of the plugins that were recorded.
        """
        if files:
            named = shlex.join(word for file in files for word in ("--plugin", file))
            text = f"the {self.kind} {self.name!r} came with a plugin; pass {named} (in Python: maxca.plugins.load)"
            self.args = (one_line(text),)
        return self


def record_origin(kind: str, name: str, plugin: str) -> None:
    """Note that a plugin, known by the name of its file, brought a name."""
    _origins[kind, name] = plugin


def forget_origin(kind: str, name: str) -> None:
    """Take such a note away."""
    _origins.pop((kind, name), None)


def origin(kind: str, name: object) -> str | None:
    """The name of the plugin's file; None for what is bundled or was registered without a file."""
    return _origins.get((kind, name)) if isinstance(name, str) else None
