"""Templates: files, and names of TemplateFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError, one_line
from maxca.fields import OptionError
from maxca.io.atomic import full_suffix
from maxca.workflows.bids.layout import NEEDED
from maxca.workflows.bids.options import BidsOptions

ENTITY = re.compile(r"tpl-([A-Za-z0-9]+)", re.ASCII)


@dataclass(frozen=True)
class Template:
    """A template.

    Args:
        label: its name, in names of files.
        image: its file.
    """

    label: str
    image: Path


def find_template(options: BidsOptions) -> Template:
    """The template of the options.

    Raises:
        MaxcaError: for a name that TemplateFlow does not know or cannot download.
    """
    given = options.template
    path = Path(given).expanduser()
    if path.is_file():
        entity = ENTITY.match(path.name)
        stem = path.name[: len(path.name) - len(full_suffix(path))]
        return Template(entity[1] if entity else re.sub("[^A-Za-z0-9]", "", stem) or "template", path)
    if path.suffix or path.parent != Path("."):
        raise OptionError("template", given, "no such file; check the path, or give a name of TemplateFlow")
    return Template(given, _fetched(options))


def _fetched(options: BidsOptions) -> Path:
    try:
        from templateflow import api
    except ImportError as error:
        raise MaxcaError(NEEDED) from error
    name, desc = options.template, "brain" if options.skull_stripped else None
    known = api.templates()
    if name not in known:
        near = ", ".join(each for each in known if each.lower().startswith(name[:4].lower()))
        raise OptionError("template", name, f"TemplateFlow has no such template{f'; it has {near}' if near else ''}")
    wanted = {"resolution": options.resolution, "suffix": options.suffix, "desc": desc, "extension": ".nii.gz"}
    found = _get(api, name, wanted) or _get(api, name, wanted | {"resolution": None})
    if not found:
        brain = " of the brain alone" if desc else ""
        raise OptionError("template", name, f"TemplateFlow has no {options.suffix} image{brain} of it; give a file")
    return found[0]


def _get(api: Any, name: str, wanted: dict[str, Any]) -> list[Path]:
    try:
        found = api.get(name, **wanted)
    except Exception as error:  # of whichever way it downloads
        said = one_line(str(error), 160)
        raise OptionError(
            "template",
            name,
            f"cannot be downloaded ({said}); connect to the internet, set TEMPLATEFLOW_HOME to a cache that has it, or "
            "give an image file",
        ) from error
    return [path for path in (found if isinstance(found, list) else [found]) if path and Path(path).stat().st_size]
