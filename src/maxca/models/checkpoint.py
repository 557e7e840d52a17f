"""Networks on disk: a safetensors file with the weights and, as text, the description of the network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path
from maxca.io.records import decode
from maxca.io.regular import check_regular, read_bytes

ENTRY = "maxca"  # of the file's metadata
LONGEST = 1 << 20  # characters of a description


def save_checkpoint(path: str | Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights and a description.

    Args:
        path: ends in ``.safetensors``.
        state: a ``state_dict``.
        about: JSON data.

    Raises:
        MaxcaError: when the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_path(path) as unfinished:
        # Not save_file, which creates a file that only its owner can read.
        unfinished.write_bytes(save(tensors, metadata={ENTRY: json.dumps(about, sort_keys=True)}))


class Checkpoint(NamedTuple):
    """The content of a file, and its hash.

    Args:
        state: weights by name.
        about: their description.
        sha256: of the bytes that both were read from.
    """

    state: dict[str, Tensor]
    about: dict[str, Any]
    sha256: str


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read weights and their description, from one reading of the file; nothing in it is executed.

    Raises:
        MaxcaError: for a file that is missing, not a safetensors file, or not written by ``save_checkpoint``.
    """
    path = _present(path)
    content = read_bytes(path)
    with _named(path):
        state = load(content)
        length = int.from_bytes(content[:8], "little")  # the format's header, which ``load`` has checked
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        return Checkpoint(state, _description(metadata, path), hashlib.sha256(content).hexdigest())


def read_description(path: str | Path) -> dict[str, Any]:
    """The description in a file, without reading its weights; raises as ``read_checkpoint`` does."""
    path = _present(path)
    check_regular(path)
    with _named(path), safe_open(path, framework="pt") as file:
        return _description(file.metadata() or {}, path)


def _present(path: str | Path) -> Path:
    if not os.path.exists(path):
        raise MaxcaError(f"{path}: no such model file")
    return Path(path)


def _description(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    text = metadata.get(ENTRY, "null")
    if len(text) > LONGEST:
        raise MaxcaError(f"{path}: its description has {len(text)} characters; save it with maxca")
    if text == "null":
        raise MaxcaError(f"{path}: contains weights without the description of a network; save it with maxca")
    return decode(text, dict[str, Any], path, "the description of a network; save it with maxca")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        raise MaxcaError(f"{path}: not a model file (safetensors): {error}") from error
