"""Files of the output, named by the BIDS specification of derivatives; ``outputs.json`` says which there are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path
from maxca.io.records import read_text
from maxca.version import installed_version
from maxca.workflows.bids.layout import DESCRIPTION, name_of
from maxca.workflows.bids.template import Template

EXPORTED = "exported.json"
BIDS_VERSION = "1.10.0"
README = """# Derivatives of maxca

Scans of {name}, registered to a template by maxca {version}.

- `sub-…/anat`: for each scan the transforms in both directions (`*_xfm.h5`, for ITK, ANTs and 3D Slicer;
  `from-T1w_to-X` warps images of the scan to X), the scan on the grid of the template, and its labels, if the dataset
  has them.
- `sub-…/figures`: a report of each registration.
- `group_*.html`, `group_*.tsv`: all registrations, written by the level `group`.
"""
SPEC: Mapping[str, Any] = json.loads(files(__package__).joinpath("outputs.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Naming:
    """What names of files are made of.

    Args:
        folder: relative to the output, ``sub-01/ses-a/anat``.
        prefix: ``sub-01_ses-a``.
        suffix: ``"T1w"``, ….
        template: label of the template.
        desc: ``"_desc-average"`` for the mean of several scans.
    """

    folder: str
    prefix: str
    suffix: str
    template: str
    desc: str = ""

    def __call__(self, pattern: str) -> str:
        """A name from ``outputs.json``."""
        subject = self.folder.split("/")[0]
        return pattern.format(
            prefix=self.prefix, suffix=self.suffix, template=self.template, desc=self.desc, subject_folder=subject
        )

    @property
    def quality(self) -> str:
        """The folder of the report, relative to the output."""
        return self(SPEC["quality"]["folder"])


def prepare_output(out: Path, dataset: Path) -> None:
    """Create the output with its description, or check that it is an earlier one.

    Raises:
        MaxcaError: for a folder with other content.
    """
    description = out / DESCRIPTION
    if out.exists() and not out.is_dir():
        raise MaxcaError(f"{out} is a file; choose a folder for the output")
    if out.is_dir() and any(out.iterdir()) and not _ours(description):
        raise MaxcaError(f"{out} exists and is no output of maxca bids; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    name = name_of(dataset)
    _write_json(
        description,
        {
            "Name": f"maxca registrations of {name}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "maxca", "Version": installed_version()}],
            "HowToAcknowledge": "Cite maxca and arXiv:2412.18545.",
            "DatasetLinks": {"raw": os.path.relpath(dataset, out)},
        },
    )
    _write_text(out / "README.md", README.format(name=name, version=installed_version()))
    _write_text(out / ".bidsignore", "\n".join(SPEC["bidsignore"]) + "\n")


def _ours(description: Path) -> bool:
    if not description.is_file():
        return False
    try:
        made = json.loads(read_text(description)).get("GeneratedBy") or []
        return any(each.get("Name") == "maxca" for each in made)
    except (ValueError, AttributeError, MaxcaError):
        return False


def export(kind: str, folder: Path, out: Path, naming: Naming, sidecar: Mapping[str, Any]) -> list[Path]:
    """Copy the files of a result to their names in the output.

    Args:
        kind: a list of ``outputs.json``.
        folder: of the result; files that it lacks are skipped.
        out: the output.
        naming: of the files.
        sidecar: metadata of the images.

    Returns:
        The files in the output.
    """
    place = out / naming.folder
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for entry in SPEC[kind]:
        source, target = folder / entry["file"], place / naming(entry["name"])
        if not source.is_file():
            continue
        _copy(source, target)
        written.append(target)
        if entry.get("sidecar"):
            written.append(target.with_name(target.name.split(".")[0] + ".json"))
            _write_json(written[-1], dict(sidecar))
    return written


def export_quality(folder: Path, out: Path, naming: Naming) -> list[Path]:
    """Copy the report of a registration and what the page of the group needs; the files in the output."""
    place = out / naming.quality
    place.mkdir(parents=True, exist_ok=True)
    names = [name for name in SPEC["quality"]["files"] if (folder / name).is_file()]
    for name in names:
        _copy(folder / name, place / name)
    return [place / name for name in names]


def is_exported(folder: Path, out: Path) -> bool:
    """Whether the files of a result are in this output already, see ``note_exported``."""
    if not (folder / EXPORTED).is_file():
        return False
    try:
        known = json.loads(read_text(folder / EXPORTED))
        return known["out"] == str(out.resolve()) and all((out / name).is_file() for name in known["files"])
    except (ValueError, KeyError, TypeError, MaxcaError):
        return False


def note_exported(folder: Path, out: Path, written: Sequence[Path]) -> None:
    """Note in the folder of a result, which is replaced with it, what of it is in the output."""
    names = [path.relative_to(out).as_posix() for path in written]
    _write_json(folder / EXPORTED, {"out": str(out.resolve()), "files": names})


def metadata(sources: list[str], template: Template, out: Path, *, skull_stripped: bool) -> dict[str, Any]:
    """The sidecar of an image on the grid of the template.

    Args:
        sources: files of the dataset, relative to it.
        template: of the space.
        out: the output, to which the path of the template is relative.
        skull_stripped: whether the scans show the brain alone.
    """
    return {
        "Description": f"Registered to {template.label} by maxca, interpolated once",
        "Sources": [f"bids:raw:{source}" for source in sources],
        "SpatialReference": os.path.relpath(template.image, out),
        "SkullStripped": skull_stripped,
    }


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as unfinished:
        shutil.copyfile(source, unfinished)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
