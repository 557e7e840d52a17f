"""Damaged files to every reader: ``python tests/fuzz/fuzz.py --cases 5000 --seeds 1 2 3``.

Each file is read in a child process with limits. A reader either takes it, or refuses it with a ``MaxcaError`` of one
line under 500 characters that names the file; it does not crash, hang over 10 s, take 1 GB, print, or leave anything
behind. One line is printed for each that does otherwise; ``--again SEED/NUMBER:KIND`` shows the traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a child that is forked beside threads may wait for them forever

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from corpus import Subject, build
from mutate import damaged

from maxca.errors import MaxcaError

COMPRESSED = ("ours.nii.gz", "ours.mha", "ours.nrrd", "freesurfer.mgz", "nifti2", "itk.mhd-packed", "itk.nhdr-packed")
SECONDS, BYTES, LONGEST = 10, 1 << 30, 500
ELSEWHERE = ("no longer there; say where", "changed since it was registered")  # these name an input of a result
FAULT = 9  # exit status of a child that found one


def main() -> int:
    """Run the cases; the number of faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=300, help="of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--again", nargs="+", metavar="SEED/NUMBER:KIND", help="these alone, with tracebacks")
    parser.add_argument("--only", default="", help="files whose kind holds this text")
    parser.add_argument("--flips", type=int, default=0, help="single bits of compressed images to flip as well")
    parser.add_argument("--keep", type=Path, help="where the files of faults are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(seed, number, "") for seed in options.seeds for number in range(options.cases)]
    if options.again:  # the kind of file is named, because the list of all kinds grows
        parts = (re.fullmatch(r"(\d+)/(\d+):(.+)", each) for each in options.again)
        cases = [(int(part[1]), int(part[2]), part[3]) for part in parts if part]
    faults = 0
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "good").mkdir()
        subjects = build(Path(root) / "good")
        for subject in subjects:
            subject.read(subject.folder)  # as they are, all can be read
        named = {subject.name: subject for subject in subjects}
        for seed, number, kind in cases:
            subject = named[kind] if kind else subjects[number % len(subjects)]
            if options.only not in subject.name:
                continue
            folder = Path(root) / "tried" / subject.name
            shutil.copytree(subject.folder, folder)
            done = spoil(folder, subject.file, seed, number)
            fault = tried(subject, folder, show=bool(options.again))
            if fault:
                faults += 1
                print(f"{seed}/{number}:{subject.name} ({done}): {fault}", flush=True)
                if options.keep:
                    shutil.copytree(folder, options.keep / f"{seed}-{number}", dirs_exist_ok=True)
            elif options.again:
                print(f"{seed}/{number}:{subject.name} ({done}): as promised")
            shutil.rmtree(folder.parent)
        print(f"{len(cases)} damaged files, {faults} faults")
        if options.flips:
            others = flipped(subjects, options.flips)
            print(f"{options.flips} flipped bits in compressed images, {others} read as other voxels")
            faults += others
    return min(faults, 100)


def flipped(subjects: list[Subject], count: int) -> int:
    """Flip single bits in compressed images: how many are read as other voxels."""
    random, others = np.random.default_rng(0), 0
    packed = [subject for subject in subjects if subject.name in COMPRESSED]
    for number in range(count):
        subject = packed[number % len(packed)]
        files = sorted(subject.folder.iterdir())
        path = files[int(random.integers(len(files)))]
        whole, expected = path.read_bytes(), subject.read(subject.folder).data
        bit = int(random.integers(8 * len(whole)))
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = subject.read(subject.folder).data
        except MaxcaError:
            found = expected
        path.write_bytes(whole)
        if not np.array_equal(found, expected):
            others += 1
            print(f"{subject.name}: bit {bit} of {path.name} makes other voxels", flush=True)
    return others


def spoil(folder: Path, usual: str, seed: int, number: int) -> str:
    """Damage a file in its place, mostly the usual one; in words, how."""
    random = np.random.default_rng([seed, number])
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = folder / usual if random.random() < 0.8 else files[int(random.integers(len(files)))]
    content, done = damaged(path.read_bytes(), random)
    path.write_bytes(content)
    return f"{path.name}: {done}"


def tried(subject: Subject, folder: Path, show: bool = False) -> str:
    """Read a damaged file in a child process: what was wrong with that, if anything."""
    before = listed(folder)
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as printed:
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(subject, folder, told.fileno(), printed.fileno(), show)
        status, used = _ended(child, begin)
        told.seek(0)
        printed.seek(0)
        said, noise = told.read().decode(errors="replace"), printed.read(400)
    if show and noise:
        print(noise.decode(errors="replace"))
    if status is None:
        return f"no end in {SECONDS} s"
    if os.WIFSIGNALED(status):
        return f"crashed: {signal.Signals(os.WTERMSIG(status)).name}"
    if os.waitstatus_to_exitcode(status):
        return said or f"exit status {os.waitstatus_to_exitcode(status)}"
    if noise:
        return f"printed {noise[:80]!r}"
    if listed(folder) != before:
        return f"left {sorted(listed(folder) ^ before)}"
    return f"took {used / 1e9:.1f} GB" if used > BYTES else ""


def listed(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _ended(child: int, begin: float) -> tuple[int | None, int]:
    """Exit status and bytes more than this process holds; no status where it had to be killed."""
    pause = 0.0005
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return status, 1024 * max(0, used.ru_maxrss - own)
        if time.monotonic() - begin > SECONDS:
            os.killpg(child, signal.SIGKILL)
            os.wait4(child, 0)
            return None, 0
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _child(subject: Subject, folder: Path, told: int, printed: int, show: bool) -> None:
    """Read, and tell what is wrong; does not return."""
    os.setpgid(0, 0)
    for stream in (1, 2):
        os.dup2(printed, stream)
    held = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_DATA, (held + BYTES, held + BYTES))
    fault = ""
    try:
        subject.read(folder)
    except MaxcaError as error:
        message = str(error)
        if str(folder) not in message and not any(gone in message for gone in ELSEWHERE):
            fault = f"names no file: {message[:200]}"
        elif len(message.replace(str(folder), "")) > LONGEST or not message.isprintable():
            fault = f"no short line: {message[:200]!r}"
    except BaseException as error:
        fault = f"{type(error).__name__}: {error}"[:300].replace("\n", " ")
        if show:
            traceback.print_exc()
    sys.stdout.flush()
    os.write(told, fault.encode(errors="replace"))
    os._exit(FAULT if fault else 0)


if __name__ == "__main__":
    sys.exit(main())
