"""The command that does again what was done, whatever folder it is called from."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

INVERSE = re.compile(r"\[(.+),\s*([01])\]")  # as antsApplyTransforms writes the inverse of an affine


def repeated(context: typer.Context, names: Mapping[str, Callable[[str], str]], **known: Any) -> str:
    """A line for a shell: the options that were given, and files by their absolute paths.

    Args:
        context: of the command.
        names: for each option whose text may name a file, how it is written for any folder.
        known: values of options as they turned out; they count as given.
    """
    options = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
    words = ["maxca", *context.command_path.split()[1:]]
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
    """A path that means the same in every folder; links in it are kept."""
    return os.path.abspath(path)


def anywhere(*words: str) -> Callable[[str], str]:
    """How to write the name of a file, or of one in ``[FILE,1]``, unless it is one of ``words``."""

    def written(text: str) -> str:
        if text in words:
            return text
        inverse = INVERSE.fullmatch(text)
        if inverse and not os.path.exists(text):
            return f"[{absolute(inverse[1].strip())},{inverse[2]}]"
        return absolute(text)

    return written
