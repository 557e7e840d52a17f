"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Such as ``"0.1.0"``; where the package runs from its source folder, text that says so."""
    try:
        return version("maxca")
    except PackageNotFoundError:
        return "unknown (not installed)"
