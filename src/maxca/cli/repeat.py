"""The command that repeats a run, independent of the working folder."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from maxca import plugins

INVERSE = re.compile(r"\[(.+),\s*([01])\]")  # the inverse of an affine, as in antsApplyTransforms


def repeated(context: typer.Context, names: Mapping[str, Callable[[str], str]], **known: Any) -> str:
    """A shell command with the given options and absolute paths.

    Args:
        context: of the command.
        names: for each option that may contain a path, a function that makes it absolute.
        known: resolved values of options, which are included.
    """
    options = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
    words = ["maxca", *plugins.arguments(), *context.command_path.split()[1:]]
    for name, value in {**context.params, **known}.items():
        source = context.get_parameter_source(name)
        if name not in known and (source is None or source.name.startswith("DEFAULT")):
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is True:
                words.append(options[name])
            elif each is not None and each is not False:
                words += [options[name], names.get(name, str)(str(absolute(each) if isinstance(each, Path) else each))]
    return shlex.join(words)


def absolute(path: str | Path) -> str:
    """An absolute path; symbolic links are preserved."""
    return os.path.abspath(path)


def anywhere(*words: str) -> Callable[[str], str]:
    """A function that makes a path, or one in ``[FILE,1]``, absolute, unless it is one of ``words``."""

    def written(text: str) -> str:
        if text in words:
            return text
        inverse = INVERSE.fullmatch(text)
        if inverse and not os.path.exists(text):
            return f"[{absolute(inverse[1].strip())},{inverse[2]}]"
        return absolute(text)

    return written
