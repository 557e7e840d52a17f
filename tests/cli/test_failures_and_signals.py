"""Full discs, little memory, Ctrl-C, errors that nobody foresaw: one line, the right exit code, nothing left behind."""

from __future__ import annotations

import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import QUICK, contents, run, start

import maxca.cli.register
import maxca.registration.register
import maxca.registration.result


def test_a_pair_too_large_for_memory(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 1_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    line = refused()
    assert "GB of memory" in line and "--effort fast" in line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes"), "out of memory"),
        (ZeroDivisionError("two\nlines"), "ZeroDivisionError: two lines; run again with --debug"),
        (PermissionError(13, "Permission denied", "secret.nii"), "secret.nii: permission denied"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_nobody_foresaw(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(maxca.registration.register, "align", fails)
    assert words in refused()


def test_debug_shows_the_traceback(scans: Path) -> None:
    outcome = run("register", "-f", scans / "absent.nii", "-m", scans / "absent.nii", "-o", scans / "out", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err and outcome.err.endswith("check the path\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--model", "brain"),
        ("--effort", "huge"),
        ("--threads", "0"),
        ("--nonsense",),
    ],
    ids=lambda words: words[0],
)
def test_wrong_usage_is_exit_2(refused: Callable[..., str], words: tuple[str, ...]) -> None:
    assert words[0] in refused(*words, code=2, names="maxca register --help")


@pytest.mark.parametrize("share", [0.05, 0.7])
def test_a_disc_that_fills_while_writing(scans: Path, registered: Path, share: float) -> None:
    """No file may grow beyond a share of the warped image: writing fails as on a full disc."""
    limit = int(share * (registered / "warped.nii.gz").stat().st_size)
    before = contents(scans)

    def small_disc() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = "register", "-f", scans / "fixed.nii.gz", "-m", scans / "moving.nii.gz", "--save-field", *QUICK
    words = *words, "--transform", "rigid"
    process = start(*words, "-o", scans / "new" / "out", prepare=small_disc)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1, err
    assert f"cannot write {scans / 'new' / 'out'}" in err
    assert "free space" in err
    assert contents(scans) == before


@pytest.mark.parametrize("stage", ["reading", "searching", "affine", "deform", "warping", "writing"])
def test_ctrl_c_at_any_stage(scans: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    @contextmanager
    def interrupted(**_: object) -> Iterator[Callable[[str, float], None]]:
        def show(name: str, _share: float) -> None:
            if name.startswith(stage):
                signal.raise_signal(signal.SIGINT)

        yield show

    monkeypatch.setattr(maxca.cli.register, "progress_bar", interrupted)
    check_interrupted(scans)


def check_interrupted(scans: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    before = contents(scans)
    words = "register", "-f", scans / "fixed.nii.gz", "-m", scans / "moving.nii.gz", "-o", scans / "new" / "out"
    assert run(*words, *QUICK) == (130, "", "maxca: interrupted\n")
    assert contents(scans) == before
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("place", ["io.images.write", "registration.result.write_transform"])
def test_ctrl_c_while_a_file_is_written(scans: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    module, _, function = f"maxca.{place}".rpartition(".")
    original = getattr(import_module(module), function)

    def interrupted(*words: Any, **named: Any) -> None:
        original(*words, **named)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(f"{module}.{function}", interrupted)
    check_interrupted(scans)


def test_ctrl_c_that_a_library_swallowed(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = maxca.registration.register.align

    def deaf(*words: Any, **named: Any) -> Any:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return original(*words, **named)

    monkeypatch.setattr(maxca.registration.register, "align", deaf)
    check_interrupted(scans)


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [(signal.SIGINT, 130, 0.15), (signal.SIGINT, 130, "reading"), (signal.SIGTERM, 143, "align")],
)
def test_a_real_process_that_is_interrupted(scans: Path, number: int, code: int, moment: float | str) -> None:
    before = contents(scans)
    words = "register", "-f", scans / "fixed.nii.gz", "-m", scans / "moving.nii.gz", "-o", scans / "new" / "out"
    process = start(*words, "-v", "--threads", 1)
    assert process.stderr is not None
    seen = ""
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        while moment.replace("align", "searching") not in seen and select.select([process.stderr], [], [], 60)[0]:
            seen += process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    # Before Python itself is up the signal ends the process, which a shell reports as 128 + n too; later only we do.
    codes = {code, -number} if isinstance(moment, float) else {code}
    assert process.returncode in codes
    assert out == ""
    assert "Traceback" not in err
    assert contents(scans) == before
