"""Methods to compare, each with a name: maxca with its settings, other tools, existing transforms."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from maxca import plugins
from maxca.errors import MaxcaError
from maxca.fields import OptionError, options_of, read_options
from maxca.io.digest import sha256
from maxca.models.zoo import find_model
from maxca.options import EFFORTS, MODELS, EffortName, RegistrationOptions

OURS = "maxca"
PEERS = {"greedy": "picsl-greedy", "syn": "antspyx", "elastix": "itk-elastix"}  # and the packages that provide them
UNMOVED = "unmoved"
SIDES = ("fixed", "moving")
GIVEN_WITH = ("fixed_exclude", "moving_exclude", "rigid", "initial_transform")  # of a pair, for all methods of maxca
GIVEN = "given"
TOOLS = (*(f"{OURS}-{effort}" for effort in EFFORTS), *PEERS, UNMOVED)
WRITTEN = re.compile(r"(?P<tool>[a-z-]+)(?:\+(?P<model>[^@]+))?(?:@(?P<smoothness>[0-9.]+))?$")
SHORT = ("effort", "model", "smoothness")  # options in a short name
CHECKPOINTS = ("best", "last")  # names of model files that all training runs share
WEIGHTS = " model "  # in the versions of a row, before the hash of a model's file
# Of maxca.io.transforms, which imports torch, and .npz; the longer one of two that end alike comes first.
SUFFIXES = (
    *(".h5", ".nii.gz", ".npz", ".tfm", ".txt", ".mat", ".hdf5", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr"),
    *(".lta", ".m3z", ".m3d", ".aff12.1d", ".1d", ".x5"),
)
LARGEST_SMOOTHNESS = 1000.0  # mm


@dataclass(frozen=True)
class Method:
    """A registration method.

    Args:
        tool: ``"maxca"``, a key of ``PEERS``, ``"unmoved"`` or ``"given"``.
        options: of maxca.
        smoothness: regularisation of another tool in mm: Gaussian σ of the update at full resolution in greedy and SyN,
            control-point spacing of elastix; None for the tool's default.
        folder: of existing transforms.
        matrix_convention: of existing bare 4x4 matrices, see ``maxca.io.transforms.read_transform``.
    """

    tool: str
    options: RegistrationOptions | None = None
    smoothness: float | None = None
    folder: Path | None = None
    matrix_convention: str | None = None

    @property
    def name(self) -> str:
        """The name in the rows: ``maxca-balanced+auto@2.5``, ``maxca:similarity=mi``, ``greedy@2``, ``given:theirs``.

        maxca has the short form if only effort, model and smoothness differ from the defaults.
        """
        if self.folder is not None:
            return f"{GIVEN}:{self.folder.name}"
        if self.options is None:
            return self.tool + _at(self.smoothness)
        options = self.options
        model = "" if options.model == "none" else f"+{model_name(options.model)}"
        if RegistrationOptions(**{name: getattr(options, name) for name in SHORT}) == options:
            return f"{OURS}-{options.effort}{model}{_at(options.smoothness)}"
        written = {name: model_name(value) if name == "model" else value for name, value in _chosen(options).items()}
        return f"{OURS}:" + ",".join(f"{name}={_plain(value)}" for name, value in written.items())

    @property
    def versions(self) -> str:
        """Version of the package, and the first digits of the hash of a model, if any."""
        package = self._package
        return f"{package} {metadata.version(package)}{self._weights}" if package else ""

    @cached_property
    def _weights(self) -> str:
        if self.options is None or self.options.model in MODELS:
            return ""
        return f"{WEIGHTS}{sha256(find_model(self.options.model))[:12]}"

    def check(self) -> None:
        """Check that a method is available.

        Raises:
            MaxcaError: if the package is not installed, or the model does not exist.
        """
        _ = self._weights
        try:
            metadata.distribution(self._package or "maxca")
        except metadata.PackageNotFoundError as error:
            raise MaxcaError(f"{self.tool} needs an additional dependency: pip install 'maxca[bench]'") from error

    @property
    def _package(self) -> str:
        return "" if self.tool in (GIVEN, UNMOVED) else PEERS.get(self.tool, "maxca")

    def with_smoothness(self, mm: float) -> Method:
        """The method with another smoothness."""
        if self.options is None:
            return replace(self, smoothness=mm)
        return replace(self, options=replace(self.options, smoothness=mm))


def ours(effort: EffortName = "balanced", model: str = "none", smoothness: float | None = None) -> Method:
    """Method maxca with the options of a short name."""
    return Method(OURS, RegistrationOptions(effort=effort, model=model, smoothness=smoothness))


@dataclass(frozen=True)
class Job:
    """One pair for one method.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        folder: working folder.
        threads: number of them.
        kind: of the settings of other tools.
        known: labels, points and regions of both images, by the name of their option.
        further: fixed and moving image of each channel after the first; other tools are given the first alone.
    """

    fixed: Path
    moving: Path
    folder: Path
    threads: int
    kind: str = "volume"
    known: Mapping[str, Path] = field(default_factory=dict)
    further: Sequence[tuple[Path, Path]] = ()


def model_name(model: str) -> str:
    """The name of a model in rows: that of its file, preceded by its folder for a checkpoint of a training."""
    path = Path(model.replace(".safetensors", "").replace("@", ":"))  # a revision of a repository; @ is used for mm
    return f"{path.resolve().parent.name}/{path.name}" if path.name in CHECKPOINTS else path.name


def split(text: str) -> list[str]:
    """The names in a comma-separated list, in which ``maxca:effort=fast,similarity=mi`` is one name."""
    names: list[str] = []
    for part in filter(None, (word.strip() for word in text.split(","))):
        if "=" in part and ":" not in part.partition("=")[0] and names:
            names[-1] += f",{part}"
        else:
            names.append(part)
    return names


def parse(text: str) -> Method:
    """The method of a name such as ``greedy``, ``maxca-fast+auto``, ``syn@3`` or ``maxca:effort=fast,similarity=mi``.

    Raises:
        MaxcaError: for any other.
    """
    tool, colon, written = text.partition(":")
    if tool == OURS and colon:
        try:
            return Method(OURS, read_options(RegistrationOptions, written, without=("threads", "device")))
        except OptionError as error:
            raise MaxcaError(f"{text}: {error}") from error
    found = WRITTEN.match(text)
    is_ours = found is not None and found["tool"].startswith(f"{OURS}-")
    if found is None or found["tool"] not in TOOLS or (found["model"] and not is_ours):
        raise MaxcaError(
            f"unknown method {text}; choose from {', '.join(TOOLS)}; maxca takes +MODEL, all take @MM, and "
            f"{OURS}:NAME=VALUE,… takes every option of maxca register"
        )
    smoothness = float(found["smoothness"]) if found["smoothness"] else None
    if smoothness is not None and not 0 < smoothness < LARGEST_SMOOTHNESS:
        raise MaxcaError(f"{text}: smoothness must be a positive number of millimetres")
    if not is_ours:
        return Method(found["tool"], smoothness=smoothness)
    (effort,) = (each for each in EFFORTS if found["tool"].endswith(each))
    return ours(effort, found["model"] or "none", smoothness)


def crossed(methods: Sequence[Method], models: Sequence[str], smoothness: Sequence[float]) -> list[Method]:
    """Methods expanded by models (maxca) and by smoothness settings (those without their own)."""
    plain = [(method, method.options) for method in methods if method.options is not None]
    with_models = [replace(each, options=replace(options, model=model)) for model in models for each, options in plain]
    widened = [*methods, *with_models]
    if not smoothness:
        return widened
    found = []
    for method in widened:
        own = method.smoothness if method.options is None else method.options.smoothness
        found += [method] if own is not None else [method.with_smoothness(mm) for mm in smoothness]
    return found


def command(method: Method, job: Job) -> list[str]:
    """The command line that registers one pair from its raw files; empty if there is nothing to run."""
    if method.tool in (GIVEN, UNMOVED):
        return []
    if method.options is None:
        pair = map(str, (job.fixed, job.moving, job.folder, job.threads, job.kind))
        smoothness = [] if method.smoothness is None else [f"{method.smoothness:g}"]
        return [sys.executable, "-m", "maxca.evaluate.peers", method.tool, *pair, *smoothness]
    given = {"effort": method.options.effort, "model": method.options.model, **_chosen(method.options)}
    if weights := given.pop("channel_weights", ()):
        given["channel_weights"] = _plain(weights)
    guides = [(f"{side}_{kind}", job.known.get(f"{side}_{kind}")) for kind in method.options.guide for side in SIDES]
    regions = [(name, job.known.get(name)) for name in GIVEN_WITH]
    given |= {name: path for name, path in (*guides, *regions) if path is not None}
    words = [word for name, value in given.items() for each in _each(value) for word in (_flag(name), _plain(each))]
    pairs = ((job.fixed, job.moving), *job.further)
    files = [
        word for pair in pairs for side, path in zip(("-f", "-m"), pair, strict=True) for word in (side, str(path))
    ]
    files += ["-o", str(job.folder)]
    options = [*words, "--threads", str(job.threads), "-q", "--overwrite"]
    return [sys.executable, "-m", "maxca", *plugins.arguments(), "register", *files, *options]


def _chosen(options: RegistrationOptions) -> dict[str, Any]:
    """The options that differ from the defaults."""
    values = {each.name: (getattr(options, each.name), each.default) for each in options_of(RegistrationOptions)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _at(smoothness: float | None) -> str:
    return "" if smoothness is None else f"@{smoothness:g}"


def environment(threads: int) -> dict[str, str]:
    """The environment of a process, with its number of threads."""
    limits = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": str(threads) for name in limits},
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
        "ANTS_RANDOM_SEED": "1",
    }


def given_transform(folder: Path, number: int, fixed: Path, moving: Path) -> Path:
    """The transform of a pair in a folder.

    It is named after the index of the pair in the list, from 0 (``7.h5``, ``0007.nii.gz``), or after its images, with
    or without the prefix ``disp_``, as in Learn2Reg: ``disp_FIXED_MOVING.nii.gz``.

    Raises:
        MaxcaError: if there is none, or more than one.
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
        raise MaxcaError(f"{folder}: one transform for pair {number} ({images}) is needed, found {names}")
    return found[0]


def stem(path: Path) -> str:
    """The name of a file without the suffix of its format."""
    name = path.name
    return next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), path.stem)
