"""Networks on disk: one safetensors file holds the weights and, as text, what they are the weights of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path
from maxca.io.records import decode
from maxca.io.regular import check_regular

ENTRY = "maxca"  # of the file's metadata
LONGEST = 1 << 20  # characters of a description


def save_checkpoint(path: str | Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights and a description.

    Args:
        path: ends in ``.safetensors``.
        state: a ``state_dict``.
        about: anything that JSON can hold.

    Raises:
        MaxcaError: when the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_path(path) as unfinished:
        # Not save_file: it makes a file that nobody else may read.
        unfinished.write_bytes(save(tensors, metadata={ENTRY: json.dumps(about, sort_keys=True)}))


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and their description; nothing in the file is executed.

    Raises:
        MaxcaError: for a file that is missing, is no safetensors file, or was not written by ``save_checkpoint``.
    """
    with _opened(path) as (file, about):
        return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118


def read_description(path: str | Path) -> dict[str, Any]:
    """What the weights in a file are the weights of, without reading them; raises as ``read_checkpoint`` does."""
    with _opened(path) as (_, about):
        return about


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    path = Path(path)
    if not os.path.exists(path):
        raise MaxcaError(f"{path}: no such model file")
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(ENTRY, "null")
            if len(text) > LONGEST:
                raise MaxcaError(f"{path}: its description has {len(text)} characters; save it with maxca")
            if text == "null":
                raise MaxcaError(f"{path}: holds weights, but does not say of which network; save it with maxca")
            yield file, decode(text, dict[str, Any], path, "the description of a network; save it with maxca")
    except (SafetensorError, OSError, ValueError) as error:
        raise MaxcaError(f"{path}: not a model file (safetensors): {error}") from error
