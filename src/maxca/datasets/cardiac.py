"""Hearts of the ACDC challenge: cine MR at end-diastole and end-systole."""

from __future__ import annotations

from pathlib import Path

from maxca.datasets.hippocampus import read_split
from maxca.errors import MaxcaError
from maxca.io.pairs import Scan

PHASES = ("ED", "ES")


def read_acdc(folder: Path) -> list[Scan]:
    """Both phases of every patient, as downloaded: ``patientNNN/Info.cfg`` and ``patientNNN_frameNN[_gt].nii[.gz]``.

    ``folder`` contains the patients, or ``training`` and ``testing`` with them.

    Raises:
        MaxcaError: if no patient is found, or one lacks a phase.
    """
    places = [p for p in (folder, folder / "training", folder / "testing") if p.is_dir()]
    found = (info.parent for place in places for info in place.glob("patient*/Info.cfg"))
    patients = sorted(found, key=lambda patient: patient.name)
    if not patients:
        raise MaxcaError(f"{folder}: no patientNNN/Info.cfg; unpack the ACDC data there")
    split = read_split(folder)
    return [scan for patient in patients for scan in _phases(patient, split.get(patient.name))]


def _phases(patient: Path, split: str | None) -> list[Scan]:
    info = read_info(patient / "Info.cfg")
    scans = []
    for phase in PHASES:
        try:
            stem = f"{patient.name}_frame{int(info[phase]):02d}"
        except (KeyError, ValueError) as error:
            raise MaxcaError(f"{patient / 'Info.cfg'}: no frame number of {phase}") from error
        image = _image(patient, stem)
        if image is None:
            raise MaxcaError(f"{patient}: Info.cfg names {stem} as {phase}, but this image is missing")
        scans.append(Scan(stem, patient.name, image, _image(patient, f"{stem}_gt"), split, phase))
    return scans


def read_info(path: Path) -> dict[str, str]:
    """The lines ``key: value`` of an ``Info.cfg``."""
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def _image(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.nii.gz", folder / f"{stem}.nii") if p.is_file()), None)
