"""The version of the installed package."""

from __future__ import annotations


def installed_version() -> str:
    """Such as ``"0.1.0"``; where the package runs from its source folder, text that says so."""
    from importlib.metadata import PackageNotFoundError, version  # 50 ms, which not every command needs

    try:
        return version("maxca")
    except PackageNotFoundError:
        return "unknown (not installed)"
