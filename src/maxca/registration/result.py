"""The result of a registration: transforms, images and their record."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maxca.errors import MaxcaError
from maxca.geometry import Chain, Grid
from maxca.io.atomic import RESULT_FILE, output_folder
from maxca.io.images import Image, read
from maxca.io.records import encode
from maxca.io.series import Series, open_series
from maxca.io.transforms import read_transform, write_transform
from maxca.registration.record import WARPED, Assessment, Record, read_record
from maxca.registration.volumes import WarpedSeries

LABELS = "warped_labels.nii.gz"
TRANSFORM, INVERSE = "transform.h5", "inverse_transform.h5"
CHANGE = "volume_change.nii.gz"
UNCERTAINTY = "uncertainty.nii.gz"


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of ``maxca.register``.

    Args:
        chain: fixed world points → moving world points, RAS+ mm: resamples the moving image onto the fixed one.
        inverse: moving world points → fixed world points.
        fixed_grid: the grid of the fixed image.
        warped: the moving image on the fixed grid, in its own data type.
        record: content of ``result.json``.
        warped_labels: the moving labels on the fixed grid, if labels were given: each label interpolated linearly, the
            largest weight wins. (Dice and distances are measured on labels warped by nearest neighbour, as for every
            method.)
        applied: additional images of moving space on the fixed grid, by name; the volumes of a 4-D image are
            resampled when they are saved.
        volume_change: percent at each voxel of the fixed grid, of longitudinal registrations.
        uncertainty: standard deviation of the displacement over perturbed runs, mm at each voxel of the fixed grid, if
            asked for.
    """

    chain: Chain
    inverse: Chain
    fixed_grid: Grid
    warped: Image
    record: Record
    warped_labels: Image | None = None
    applied: Mapping[str, Image | WarpedSeries | Series] = field(default_factory=dict)
    volume_change: Image | None = None
    uncertainty: Image | None = None

    @property
    def metrics(self) -> Assessment:
        """Similarity before and after, folding, residual of the inverse; Dice, HD95 and TRE if available."""
        return self.record.metrics

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user, one line each."""
        return self.record.warnings

    @classmethod
    def load(cls, folder: str | Path) -> Result:
        """Read an output folder of ``save`` or of ``maxca register``.

        Raises:
            MaxcaError: for another folder, or unreadable files.
        """
        place = Path(folder)
        record = read_record(place)
        labels = place / LABELS
        warped = read(place / WARPED)
        return cls(
            read_transform(place / TRANSFORM),
            read_transform(place / INVERSE),
            warped.grid,
            warped,
            record,
            read(labels) if labels.is_file() else None,
            {name: _additional(_inside(place, f"warped_{name}")) for name in record.applied},
            read(place / CHANGE) if record.metrics.volume_change is not None else None,
            read(place / UNCERTAINTY) if record.metrics.uncertainty is not None else None,
        )

    def save(self, folder: str | Path, *, overwrite: bool = False, save_field: bool = False) -> Path:
        """Write the output folder atomically.

        Args:
            folder: its path; missing parents are created.
            overwrite: replace an earlier output.
            save_field: also write ``displacement.nii.gz``, the whole map on the fixed grid (5-D, intent 1007, LPS mm).

        Returns:
            The folder.

        Raises:
            MaxcaError: if it exists and ``overwrite`` is not set, or cannot be written.
        """
        with output_folder(folder, overwrite) as place:
            self.write_into(place, save_field=save_field)
        return Path(folder)

    def write_into(self, place: Path, *, save_field: bool = False, without: Collection[str] = ()) -> None:
        """Write the files of the output folder into an existing one.

        Args:
            place: the folder.
            save_field: also write ``displacement.nii.gz``.
            without: names of files that are not written.
        """
        if WARPED not in without:
            self.warped.save(place / WARPED)
        write_transform(self.chain, place / TRANSFORM)
        if INVERSE not in without:
            write_transform(self.inverse, place / INVERSE)
        if self.warped_labels is not None and LABELS not in without:
            self.warped_labels.save(place / LABELS)
        if self.volume_change is not None:
            self.volume_change.save(place / CHANGE)
        if self.uncertainty is not None:
            self.uncertainty.save(place / UNCERTAINTY)
        for name, image in self.applied.items():
            image.save(place / f"warped_{name}")
        if save_field:
            write_transform(self.chain, place / "displacement.nii.gz", grid=self.fixed_grid)
        (place / RESULT_FILE).write_text(encode(self.record), encoding="utf-8")

    def __repr__(self) -> str:
        score = self.metrics.similarity
        shape = " x ".join(map(str, self.fixed_grid.shape))
        return (
            f"Result({self.record.settings.transform}, {score.name} {score.before:.3f} → {score.after:.3f}, "
            f"folding {self.metrics.folding.ndv_percent:.2g} %, on {shape} voxels)"
        )


def _additional(path: Path) -> Image | Series:
    return open_series(path) or read(path)


def _inside(folder: Path, name: str) -> Path:
    """The path of a file inside the folder; the record is not trusted.

    Raises:
        MaxcaError: for a path outside the folder.
    """
    if Path(name).name != name:
        raise MaxcaError(f"{folder / RESULT_FILE}: {name} is not the name of a file; run maxca register again")
    return folder / name
