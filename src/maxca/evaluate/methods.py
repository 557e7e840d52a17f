"""What is compared: ours with its settings, other tools, transforms that are there already; each has a name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.io.digest import sha256
from maxca.models.zoo import find_model

EFFORTS = ("fast", "balanced", "accurate")
OURS = tuple(f"maxca-{effort}" for effort in EFFORTS)
PEERS = {"greedy": "picsl-greedy", "syn": "antspyx", "elastix": "itk-elastix"}  # and the packages that bring them
UNMOVED = "unmoved"
GIVEN = "given"
TOOLS = (*OURS, *PEERS, UNMOVED)
WRITTEN = re.compile(r"(?P<tool>[a-z-]+)(?:\+(?P<model>[^@]+))?(?:@(?P<smoothness>[0-9.]+))?$")
CHECKPOINTS = ("best", "last")  # what every run of training calls its models
WEIGHTS = " model "  # in the versions of a row, before what a model's file is known by
SUFFIXES = (".h5", ".nii.gz", ".npz", ".tfm", ".txt", ".mat", ".hdf5", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")


@dataclass(frozen=True)
class Method:
    """One way to register.

    Args:
        tool: one of ``TOOLS``, or ``"given"``.
        model: what ours asks, for ``register --model``.
        smoothness: mm of regularisation: ours ``--smoothness``, greedy's and SyN's sigma of the update at full
            resolution, the distance of elastix's control points; None for the tool's default.
        folder: where given transforms lie.
        matrix_convention: what those mean that are bare 4x4 matrices, see ``maxca.io.transforms.read_transform``.
    """

    tool: str
    model: str = "none"
    smoothness: float | None = None
    folder: Path | None = None
    matrix_convention: str | None = None

    @property
    def name(self) -> str:
        """As in the rows: ``maxca-balanced+hippocampus@2.5``, ``maxca-fast+run/best``."""
        if self.folder is not None:
            return f"{GIVEN}:{self.folder.name}"
        model = "" if self.model == "none" else f"+{model_name(self.model)}"
        return self.tool + model + ("" if self.smoothness is None else f"@{self.smoothness:g}")

    @property
    def versions(self) -> str:
        """Of the package that does the work, and of a model that was named what its file is known by."""
        package = self._package
        return f"{package} {metadata.version(package)}{self._weights}" if package else ""

    @cached_property
    def _weights(self) -> str:
        if self.model in ("none", "auto"):
            return ""
        return f"{WEIGHTS}{sha256(find_model(self.model))[:12]}"

    def check(self) -> None:
        """Refuse a method that cannot run here.

        Raises:
            MaxcaError: when the package that does the work is not installed, or there is no such model.
        """
        _ = self._weights
        try:
            metadata.distribution(self._package or "maxca")
        except metadata.PackageNotFoundError as error:
            raise MaxcaError(f"{self.tool} needs another package: pip install 'maxca[bench]'") from error

    @property
    def _package(self) -> str:
        return "" if self.tool in (GIVEN, UNMOVED) else PEERS.get(self.tool, "maxca")


@dataclass(frozen=True)
class Job:
    """One pair for one method: where to work, with how many threads, and which settings other tools get."""

    fixed: Path
    moving: Path
    folder: Path
    threads: int
    kind: str = "volume"


def model_name(model: str) -> str:
    """What a model is called in rows: the name of its file, for a checkpoint of a training with its folder's before."""
    path = Path(model.replace(".safetensors", "").replace("@", ":"))  # a revision of a repository; @ is for mm
    return f"{path.resolve().parent.name}/{path.name}" if path.name in CHECKPOINTS else path.name


def parse(text: str) -> Method:
    """The method of a name such as ``greedy``, ``maxca-fast``, ``maxca-balanced+auto`` or ``syn@3``.

    Raises:
        MaxcaError: for any other.
    """
    found = WRITTEN.match(text)
    if found is None or found["tool"] not in TOOLS or (found["model"] and found["tool"] not in OURS):
        raise MaxcaError(f"no method is called {text}; choose of {', '.join(TOOLS)}; ours take +MODEL, all take @MM")
    smoothness = float(found["smoothness"]) if found["smoothness"] else None
    if smoothness is not None and not 0 < smoothness < 1000:
        raise MaxcaError(f"{text}: smoothness is a positive number of millimetres")
    return Method(found["tool"], found["model"] or "none", smoothness)


def crossed(methods: Sequence[Method], models: Sequence[str], smoothness: Sequence[float]) -> list[Method]:
    """Each of our methods with each model too, and each method with each smoothness, unless it has its own."""
    plain = [method for method in methods if method.tool in OURS]
    widened = [*methods, *(Method(method.tool, model, method.smoothness) for model in models for method in plain)]
    if not smoothness:
        return widened
    given = [(method.smoothness,) if method.smoothness is not None else smoothness for method in widened]
    return [replace(method, smoothness=mm) for method, several in zip(widened, given, strict=True) for mm in several]


def command(method: Method, job: Job) -> list[str]:
    """The command line that registers one pair from its raw files; empty where there is nothing to run."""
    if method.tool in (GIVEN, UNMOVED):
        return []
    smoothness = [] if method.smoothness is None else [f"{method.smoothness:g}"]
    if method.tool in PEERS:
        module = [sys.executable, "-m", "maxca.evaluate.peers"]
        return [
            *module,
            method.tool,
            *map(str, (job.fixed, job.moving, job.folder, job.threads, job.kind)),
            *smoothness,
        ]
    options = ["--effort", method.tool.removeprefix("maxca-"), "--model", method.model, "--threads", str(job.threads)]
    if smoothness:
        options += ["--smoothness", *smoothness]
    files = ["-f", str(job.fixed), "-m", str(job.moving), "-o", str(job.folder)]
    return [sys.executable, "-m", "maxca", "register", *files, *options, "-q", "--overwrite"]


def environment(threads: int) -> dict[str, str]:
    """The environment of every process: one number of threads for all."""
    limits = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": str(threads) for name in limits},
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
        "ANTS_RANDOM_SEED": "1",
    }


def given_transform(folder: Path, number: int, fixed: Path, moving: Path) -> Path:
    """The file of a folder that belongs to a pair.

    It is called by the number of the pair in the list, from 0 (``7.h5``, ``0007.nii.gz``), or by its images, with or
    without ``disp_`` in front, as in Learn2Reg: ``disp_FIXED_MOVING.nii.gz``.

    Raises:
        MaxcaError: when there is none, or more than one.
    """
    images = f"{stem(fixed)}_{stem(moving)}"
    wanted = {images, f"disp_{images}"}
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(SUFFIXES)
        and (stem(path) in wanted or (stem(path).isdecimal() and int(stem(path)) == number))
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise MaxcaError(f"{folder}: one transform for pair {number} ({images}) is needed, there is {names}")
    return found[0]


def stem(path: Path) -> str:
    """The name of a file without the suffix of its format."""
    name = path.name
    return next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), path.stem)
