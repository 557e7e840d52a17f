"""Compiles the loops of ``maxca.native`` when a wheel is built, or the clone installed; without a compiler, nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/maxca/native/kernels.c")
OPTIONS = ["-O3", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]


class CompiledKernels(BuildHookInterface):
    """Adds the library to the wheel, which is then for one kind of machine and every version of Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and declare the library."""
        if self.target_name != "wheel":
            return
        library = Path(self.root) / SOURCE.with_name("kernels.so")
        if compiled(Path(self.root) / SOURCE, library):
            build_data["artifacts"].append(f"/{library.relative_to(self.root).as_posix()}")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compiled(source: Path, library: Path) -> bool:
    """Whether the library was made; without a compiler that works it is removed."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    unfinished = library.with_name(f".{os.getpid()}.{library.name}")
    try:
        if shutil.which(compiler[0]) is None:
            raise OSError(f"{compiler[0]} is not installed")
        subprocess.run(
            [*compiler, *OPTIONS, str(source), "-o", str(unfinished), "-lm"], check=True, capture_output=True
        )
        unfinished.replace(library)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error)
        print(f"maxca: no compiled loops, torch computes them: {said.decode() if isinstance(said, bytes) else said}")
        unfinished.unlink(missing_ok=True)
        library.unlink(missing_ok=True)
        return False
    return True
