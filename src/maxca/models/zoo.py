"""The file of a model: bundled, on disk, or in a Hugging Face repository."""

from __future__ import annotations

import re
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.fields import OptionError

HERE = Path(__file__).parent
WEIGHTS, CARDS = HERE / "weights", HERE / "cards"
SUFFIX = ".safetensors"
REMOTE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w.-]+\.safetensors))?(?:@(?P<revision>[\w.-]+))?$")
FILE = "model.safetensors"


def shipped() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.stem for path in WEIGHTS.glob(f"*{SUFFIX}"))


def find_model(name: str | Path) -> Path:
    """The file of a model.

    Args:
        name: of a bundled model, a path, or ``hf://OWNER/NAME[/FILE.safetensors][@REVISION]``.

    Raises:
        MaxcaError: if there is no such model, or it cannot be downloaded.
    """
    if isinstance(name, str) and name.startswith("hf://"):
        return _downloaded(name)
    if str(name) in shipped():
        return WEIGHTS / f"{name}{SUFFIX}"
    path = Path(name)
    if not path.is_file():
        raise OptionError("model", name, "no such file, and no bundled model of that name; see maxca models list")
    return path


def card(name: str) -> str:
    """The card of a bundled model, in Markdown.

    Raises:
        MaxcaError: for any other name.
    """
    if name not in shipped():
        raise MaxcaError(f"unknown model {name}; the bundled models are {', '.join(shipped()) or 'none'}")
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


def _downloaded(address: str) -> Path:
    """A file of a repository, from the cache if available; the hub's library verifies its hash."""
    match = REMOTE.match(address)
    if match is None:
        raise MaxcaError(f"{address}: a model is hf://OWNER/NAME[/FILE.safetensors][@REVISION]")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MaxcaError(f"{address}: downloading needs an additional package: pip install 'maxca[hub]'") from error
    try:
        return Path(hf_hub_download(match["repo"], match["file"] or FILE, revision=match["revision"]))
    except LocalEntryNotFoundError as error:
        raise MaxcaError(
            f"{address}: not in the cache, and the hub cannot be reached; check the network connection"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise MaxcaError(f"{address}: {' '.join(str(error).split())[:200]}") from error
