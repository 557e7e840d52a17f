"""MkDocs hook that generates the page of the command line from the commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File, Files
from typer.main import get_command

from maxca.cli.app import app

PAGE = "reference/command-line.md"
START = "# Command line\n\nThe same text is printed by `maxca COMMAND --help`."


def on_files(files: Files, config: Any) -> Files:
    """Add the page."""
    files.append(
        File.generated(config, PAGE, content="\n\n".join([START, *described("maxca", get_command(app))]) + "\n")
    )
    return files


def described(name: str, command: Any) -> Iterator[str]:
    """The sections of a command, or of the commands of a group."""
    for sub, inner in sorted(getattr(command, "commands", {}).items()):
        yield from described(f"{name} {sub}", inner)
    if not hasattr(command, "commands"):
        yield f"## {name}"
        yield plain(command.help)
        yield f"```text\n{plain(command.epilog).removeprefix('Example:').strip()}\n```" if command.epilog else ""
        rows = [f"| {' '.join(f'`{option}`' for option in names(p))} | {about(p)} |" for p in command.params]
        yield "\n".join(["| option | |", "|---|---|", *rows])


def names(parameter: Any) -> list[str]:
    """The option strings of a parameter."""
    if parameter.param_type_name == "argument":
        return [f"{parameter.metavar or parameter.name.upper()}"]
    return [*parameter.opts, *parameter.secondary_opts]


def about(parameter: Any) -> str:
    """The help of a parameter and its default."""
    text = plain(parameter.help or "").replace("\n", " ").replace("|", "\\|")
    if parameter.required:
        return f"{text} Required."
    shown = getattr(parameter, "show_default", True)
    default = shown if isinstance(shown, str) else parameter.default if shown else None
    known = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    return f"{text} Default: {default}." if known else text


def plain(text: str | None) -> str:
    """The text without the markup of rich and click."""
    return re.sub(r"\[/?(bold|italic|cyan|green)\]", "", (text or "").replace("\b\n", "")).strip()
