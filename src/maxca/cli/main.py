"""Entry point of the command line: exit codes and one-line error messages."""

from __future__ import annotations

import atexit
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from maxca.cli import signals, streams
from maxca.errors import LONGEST, MaxcaError, one_line
from maxca.runtime import tuned

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def process() -> NoReturn:
    """``main`` as a process, which skips Python's cleanup: it takes most of a second once torch is loaded."""
    streams.open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that a terminal cannot encode must not raise an error
    code = main()
    atexit._run_exitfuncs()
    if not streams.flush():
        code = code or FAILED
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``maxca`` with these arguments, by default those of the process.

    Returns:
        0 success, 1 error, 2 wrong usage, 130 interrupted, 128 + n terminated by signal n.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # --debug is usually appended to a command that just failed.
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    before, plugins = _without_plugins([word for word in words[:end] if word != "--debug"])
    words = before + words[end:]
    with tuned(), signals.as_exceptions() as interrupted, warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")  # those of libraries; ours are part of the result
        try:
            return _ending(_run(words, plugins))
        except SystemExit as end_of_process:
            return end_of_process.code if isinstance(end_of_process.code, int) else FAILED
        except BaseException as error:
            # A library interrupted during its import may raise another error.
            if isinstance(error, KeyboardInterrupt) or interrupted:
                return _ending(INTERRUPTED)
            if debug:
                traceback.print_exc()
            return _fail(error)


def _without_plugins(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The other words, and the plugins: ``--plugin`` may stand before the command or after it."""
    rest: list[str] = []
    plugins: list[str] = []
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option == "--plugin":
            plugins.append(value if equals else next(remaining, ""))
        else:
            rest.append(word)
    return rest, plugins


def _run(words: list[str], plugins: Sequence[str]) -> int | None:
    for source in plugins:  # before the commands are put together: their help lists what plugins add
        from maxca.plugins import load

        if not source or source.startswith("-"):
            _say("error: --plugin needs a Python file or the name of an installed plugin; see maxca --help")
            return USAGE
        load(source)
    # Imported late, so that an interruption while typer loads is handled too.
    import typer

    from maxca.cli.app import app

    try:
        command = typer.main.get_command(app)
        return command.main(args=words, prog_name="maxca", standalone_mode=False)
    except typer.Abort as error:  # raised by some versions of typer on Ctrl-C
        raise KeyboardInterrupt from error
    except Exception as error:
        if not hasattr(
            error, "format_message"
        ):  # click's UsageError, in whichever module this version of typer defines it
            raise
        context = getattr(error, "ctx", None)
        _say(f"error: {error.format_message().rstrip('.')}; see {context.command_path if context else 'maxca'} --help")
        return USAGE


def _ending(code: int | None) -> int:
    if code == INTERRUPTED:
        _say("interrupted")
    return code or DONE


def _fail(error: BaseException) -> int:
    if isinstance(error, MaxcaError):
        from maxca.cli.dashes import dashed

        _say(f"error: {dashed(error)}")
    elif _is_out_of_memory(error):
        _say("error: out of memory; use --effort fast or --device cpu, crop the images, or close other programs")
    elif isinstance(error, OSError) and error.filename and error.strerror:
        _say(
            f"error: {error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}; "
            "check the path and its permissions"
        )
    elif isinstance(error, OSError) and error.strerror:
        _say(f"error: {error.strerror[:1].lower()}{error.strerror[1:]}; check the disk and the target of the output")
    else:
        _say(f"error: {type(error).__name__}: {error}; run again with --debug for the traceback")
    return FAILED


def _is_out_of_memory(error: BaseException) -> bool:
    """Checked without importing torch, whose error can only occur if it is loaded."""
    torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or torchs


def _say(line: str) -> None:
    streams.write(f"maxca: {one_line(line, LONGEST + 10)}", sys.stderr)
