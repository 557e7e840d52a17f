"""The description inside a model file, checked before a network is built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maxca.io.records import fitted

SMALL = 64  # upper limit of numbers in the description of any network
MEANT = "a model of maxca; save it again with maxca models pack"
Millimetres = Annotated[float, Meta(gt=0, le=1e4)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
Extent = tuple[float, float]


class Network(TypedDict):
    """Its configuration; see ``maxca.networks.config``."""

    name: str
    arguments: dict[str, Any]
    version: NotRequired[Any]
    plugins: NotRequired[Annotated[list[str], Meta(max_length=SMALL)]]


class DomainDescription(TypedDict):
    """Intended pairs; see ``maxca.models.domain``."""

    extent_mm: Annotated[list[Annotated[list[float], Meta(min_length=2, max_length=2)]], Meta(max_length=3)]
    similarity: str
    gain: float
    plugin: NotRequired[str]


class Description(TypedDict):
    """The fields; those of type Any are validated where they are used."""

    format: Any
    network: Network
    domain: NotRequired[DomainDescription | None]
    mirror: NotRequired[list[int]]
    likeness: NotRequired[float | None]  # the name in files, see ``maxca.models.load``
    spacing: NotRequired[list[float | None] | None]
    shape: NotRequired[list[int | None] | None]


class SegmentationDescription(TypedDict):
    """The fields of a segmentation model; see ``maxca.models.segmentation``."""

    format: Literal[1]
    kind: Literal["segmentation"]
    network: dict[str, Any]
    labels: Annotated[list[tuple[int, str]], Meta(min_length=2, max_length=10_000)]
    spacing: tuple[Millimetres | None, Millimetres | None, Millimetres | None]
    shape: tuple[Count | None, Count | None, Count | None]
    extent_mm: tuple[Extent, Extent, Extent] | None
    confidence: Annotated[float, Meta(ge=0, le=1)]
    share: Annotated[float, Meta(ge=0, lt=1)]
    finest_mm: Annotated[float, Meta(ge=0)]
    calibration: tuple[float, float]
    mirror: NotRequired[list[int] | None]


def check_description(path: Path, about: Mapping[str, Any], kind: Any = Description) -> None:
    """Reject a description with a missing field or one of another type.

    Raises:
        MaxcaError: it names file and field.
    """
    fitted(dict(about), kind, path, MEANT)


def check_weights(build: Callable[[], nn.Module], arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Reject a description that does not fit the weights in the file, before memory is allocated.

    A description of a few bytes may claim a million levels; its numbers are limited by the sizes of the weights.

    Args:
        build: the network of the description.
        arguments: of the network.
        state: the weights.

    Raises:
        ValueError: for numbers beyond these limits, for other names or shapes of weights, or non-finite values.
    """
    most = max([SMALL, len(state), *(size for tensor in state.values() for size in tensor.shape)])
    _check_numbers(arguments, most, "arguments")
    with torch.device("meta"), _Unfilled():
        wanted = {name: tensor.shape for name, tensor in build().state_dict().items()}
    for name, shape in wanted.items():
        if name in state and state[name].shape != shape:
            raise ValueError(
                f"its {name} has shape {tuple(state[name].shape)}, its description requires {tuple(shape)}"
            )
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(f"Missing key(s) of weights: {missing[:3]}, unexpected: {unknown[:3]}")
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"its {name} contains NaN or infinite values")


class _Unfilled(TorchFunctionMode):
    """Skip ``normal_``, which on meta tensors loads torch's compiler and takes a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {**(kwargs or {})}
        if func is nn.init.normal_:
            return given.get("tensor", args[0] if args else None)
        return args[0] if func is torch.Tensor.normal_ else func(*args, **given)


def _check_numbers(value: Any, most: int, where: str) -> None:
    if isinstance(value, Mapping):
        for key, each in value.items():
            _check_numbers(each, most, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        if len(value) > SMALL:
            raise ValueError(f"{where} has {len(value)} entries")
        for number, each in enumerate(value):
            _check_numbers(each, most, f"{where}[{number}]")
    elif isinstance(value, int | float) and not abs(value) <= most:
        raise ValueError(f"{where} is {value:.6g}, more than its weights allow")
