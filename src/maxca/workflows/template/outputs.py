"""The folder of a template: whose template is in it, and the removal of finished outputs before new ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from maxca.errors import MaxcaError
from maxca.io.digest import sha256
from maxca.workflows.cohort.plan import InputFile, fingerprint
from maxca.workflows.cohort.planning import READERS
from maxca.workflows.template.record import RECORD, TemplateRecord, read_record
from maxca.workflows.template.registrations import TEMPLATE
from maxca.workflows.template.scans import TemplateScan

TRANSFORMS, ITERATIONS, PAGE = "transforms", "iterations", "report.html"
CONTINUED = ("iterations",)  # options with which the same template goes on


def fingerprint_of(scans: Sequence[TemplateScan], options: dict[str, Any], registration: dict[str, Any]) -> str:
    """The hash of all that determines a template: contents of the scans and of the reference, and options."""
    files = {
        f"{number}_{role}": path
        for number, scan in enumerate(scans)
        for role, paths in (("image", scan.channels), ("labels", (scan.labels,)), ("mask", (scan.mask,)))
        for role, path in ((f"{role}_{n}", path) for n, path in enumerate(paths))
        if path is not None
    }
    if options["reference"] is not None:
        files["reference"] = Path(options["reference"])
    with ThreadPoolExecutor(READERS) as pool:
        hashes = list(pool.map(sha256, files.values()))
    inputs = {role: InputFile(str(path), digest) for (role, path), digest in zip(files.items(), hashes, strict=True)}
    given = {name: value for name, value in options.items() if name not in ("reference", *CONTINUED)}
    return fingerprint(inputs, given | registration, ())


def check_free(folder: Path, record: TemplateRecord, overwrite: bool) -> bool:
    """Whether a folder has the template of other scans or options, which may be replaced.

    Args:
        folder: of the output.
        record: of the template that is built.
        overwrite: replace such a template.

    Raises:
        MaxcaError: for a folder with anything but a template, or with such a template that may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise MaxcaError(f"{folder} is a file; choose a folder for the output")
    if os.path.lexists(folder / RECORD):
        return _check_same(folder, read_record(folder), record, overwrite)
    if folder.is_dir() and any(not name.startswith(".") for name in os.listdir(folder)):
        raise MaxcaError(f"{folder} exists and contains no {RECORD} of a template; choose another folder")
    return False


def _check_same(folder: Path, before: TemplateRecord, now: TemplateRecord, overwrite: bool) -> bool:
    if before.fingerprint == now.fingerprint:
        return False
    if not overwrite:
        old, new = before.options | before.registration, now.options | now.registration
        other = [name for name in new if name not in CONTINUED and old.get(name) != new[name]]
        what = f"options ({', '.join(other)})" if other else "scans"
        raise MaxcaError(f"{folder} has a template of other {what}; choose another folder, or pass overwrite=True")
    return True


def clear(folder: Path, iterations: bool) -> None:
    """Remove the outputs of a template, so that none of them is left next to new ones.

    Args:
        folder: of the output.
        iterations: the registrations too.
    """
    for name in (TRANSFORMS, *([ITERATIONS] if iterations else [])):
        if os.path.lexists(folder / name):
            shutil.rmtree(folder / name)
    start, ending = TEMPLATE.split(".", 1)
    for path in (folder / TEMPLATE, folder / PAGE, *folder.glob(f"{start}_*.{ending}")):
        path.unlink(missing_ok=True)
