"""Several channels, such as T1 and T2 of two patients, are registered as one pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk

import maxca
from maxca import MaxcaError, Result
from maxca.cli.main import main
from maxca.evaluate.methods import Job, command, parse
from maxca.geometry import Affine, Chain, Grid
from maxca.io.images import Image, read
from maxca.io.pairs import read_pairs, write_pairs
from maxca.io.transforms import write_transform
from maxca.options import RegistrationOptions

QUICK: dict[str, Any] = {"effort": "fast", "model": "none", "threads": 1}
START = Chain((Affine.identity(),))
FIRST, SECOND = phantoms.grid((3.0, 3.0, 3.0), flips="ij"), phantoms.grid((4.0, 2.5, 3.5), extent=60.0)


def smooth(points: np.ndarray) -> np.ndarray:
    """Fixed to moving world points: waves of up to 2.5 mm."""
    x, y, z = np.moveaxis(points, -1, 0)
    return points + 2.5 * np.stack([np.sin(y / 11), np.sin(z / 12), np.sin(x / 13)], axis=-1)


def half(left: bool) -> phantoms.Map:
    """The scene with texture in one half alone."""

    def seen(points: np.ndarray) -> np.ndarray:
        grey = 400 * phantoms.inside(points)
        return np.where((points[..., 0] < 0) == left, phantoms.scene(points), grey)

    return seen


def pictures(where: Grid, what: phantoms.Map = phantoms.scene) -> tuple[Image, Image]:
    """Fixed and moving image of one contrast."""
    values = [what(each(phantoms.nodes(where))).astype(np.float32) for each in (smooth, lambda points: points)]
    return Image(values[0], where), Image(values[1], where)


def inverted(image: Image) -> Image:
    return replace(image, data=np.where(image.data > 0, 900 - image.data, 0).astype(np.float32))


def two(second: Grid = SECOND) -> tuple[list[Image], list[Image]]:
    """Both sides with two channels on different grids."""
    first, further = pictures(FIRST), pictures(second)
    return [first[0], inverted(further[0])], [first[1], inverted(further[1])]


def field(chain: Chain) -> np.ndarray:
    return chain.map_points(phantoms.nodes(FIRST).reshape(-1, 3))


@pytest.fixture(scope="module")
def found() -> Result:
    return maxca.register(*two(), **QUICK, similarity=["lncc", "mse"], channel_weights=[1, 0.5])


def test_each_channel_aligns_what_the_other_does_not_show() -> None:
    """Texture on the left in one channel, on the right in the other: alone, each is worse in the other half."""
    left, right = (pictures(FIRST, half(left)) for left in (True, False))
    sides = [left[0], right[0]], [left[1], right[1]]
    points = phantoms.nodes(phantoms.grid((3.0, 3.0, 3.0))).reshape(-1, 3)
    points = points[(phantoms.inside(points) > 0.9) & (np.abs(points[:, 0]) > 3)]
    errors = {}
    for name, weights in (("both", ()), ("left", (1, 0)), ("right", (0, 1))):
        options = {**QUICK, "initial_transform": START, "smoothness": 3.0, "channel_weights": weights}
        missed = np.linalg.norm(maxca.register(*sides, **options).chain.map_points(points) - smooth(points), axis=1)
        errors[name] = [missed[side].mean() for side in (points[:, 0] < 0, points[:, 0] > 0)]
    assert errors["both"][1] < 0.85 * errors["left"][1] and errors["both"][0] < 0.85 * errors["right"][0], errors


def test_the_first_channel_defines_the_grid_and_all_are_warped(found: Result, tmp_path: Path) -> None:
    fixed, moving = two()
    assert found.warped.grid == fixed[0].grid and list(found.applied) == ["channel_2.nii.gz"]
    second = found.applied["channel_2.nii.gz"]
    assert isinstance(second, Image) and second.grid == fixed[0].grid
    found.save(tmp_path / "out")
    write_transform(found.chain, tmp_path / "chain.h5")
    # ITK resamples the second channel through the transform as registration did.
    grid = fixed[0].to_sitk()
    theirs = sitk.Resample(moving[1].to_sitk(), grid, sitk.ReadTransform(str(tmp_path / "chain.h5")))
    ours = read(tmp_path / "out" / "warped_channel_2.nii.gz").to_sitk()
    apart = np.abs(sitk.GetArrayFromImage(theirs) - sitk.GetArrayFromImage(ours))[3:-3, 3:-3, 3:-3]
    assert apart.max() < 1e-3 * 900
    assert Result.load(tmp_path / "out").record.channels == found.record.channels


def test_the_record_tells_measure_weight_contrast_and_similarity_of_each(found: Result) -> None:
    record = found.record
    assert [(each.weight, each.same_contrast, each.warped) for each in record.channels] == [
        (1.0, True, "warped.nii.gz"),
        (0.5, True, "warped_channel_2.nii.gz"),
    ]
    scores = found.metrics.similarity_by_channel
    assert [each.name for each in scores] == ["lncc", "mse"] and all(each.after > each.before for each in scores)
    mean = (scores[0].after + 0.5 * scores[1].after) / 1.5
    assert found.metrics.similarity.name == "lncc+mse" and found.metrics.similarity.after == pytest.approx(mean)
    assert record.settings.similarity == "lncc+mse" and record.settings.channel_weights == (1.0, 0.5)
    assert record.optimisation is not None and record.optimisation["similarity"] == "lncc+mse"


def test_a_channel_of_weight_0_is_only_warped() -> None:
    fixed, moving = two()
    alone = maxca.register(fixed[0], moving[0], **QUICK)
    both = maxca.register(fixed, moving, **QUICK, channel_weights="1,0")
    assert np.array_equal(field(alone.chain), field(both.chain))
    assert both.record.channels[1].same_contrast is None and list(both.applied) == ["channel_2.nii.gz"]
    assert alone.record.channels == [] and alone.metrics.similarity_by_channel == []


def test_a_list_of_one_image_is_that_image() -> None:
    fixed, moving = two()
    one, alone = (maxca.register(*sides, **QUICK) for sides in (([fixed[0]], [moving[0]]), (fixed[0], moving[0])))
    assert np.array_equal(field(one.chain), field(alone.chain)) and one.record.channels == []


def test_only_the_ratio_of_weights_matters() -> None:
    sides = two(FIRST)
    options = {**QUICK, "similarity": "mse", "initial_transform": START}
    fields = [field(maxca.register(*sides, **options, channel_weights=each).chain) for each in ((2, 1), ("4", "2"))]
    assert np.array_equal(*fields)


def test_contrast_is_detected_in_each_channel() -> None:
    """The second channel has another contrast on each side; the first one has not, and most of the weight."""
    fixed, moving = two(FIRST)
    values = moving[1].data
    moving[1] = replace(moving[1], data=np.where(values > 0, 20 + 4 * np.abs(values - 500), 0).astype(np.float32))
    result = maxca.register(fixed, moving, **QUICK, channel_weights=(1, 0.9))
    assert [each.same_contrast for each in result.record.channels] == [True, False]
    assert result.record.affine is not None and result.record.affine.same_contrast
    assert [line for line in result.warnings if "contrast" in line] == [
        "channel 2: the images differ in contrast: a higher similarity is weaker evidence there, so inspect the result"
    ]
    other = maxca.register(fixed, moving, **QUICK, channel_weights=(1, 1.5))
    assert other.record.affine is not None and not other.record.affine.same_contrast
    smoothness = [each.record.optimisation["smoothness"] for each in (result, other) if each.record.optimisation]
    assert smoothness[1] == 3 * smoothness[0]


def test_the_mask_of_a_side_holds_for_all_of_its_channels() -> None:
    """Outside the mask, the second channel shows something else, which pulls without a mask."""
    fixed, moving = two()
    mask = Image((phantoms.nodes(FIRST)[..., 0] < 4).astype(np.uint8), FIRST)
    spoiled = fixed[1].data.copy()
    outside = phantoms.nodes(SECOND)[..., 0] > 6
    spoiled[outside] = np.roll(spoiled, 4, axis=1)[outside]
    sides = [fixed[0], replace(fixed[1], data=spoiled)], moving
    points = phantoms.nodes(phantoms.grid((4.0, 4.0, 4.0), extent=30.0)).reshape(-1, 3)
    points = points[points[:, 0] < 2]
    options = {**QUICK, "initial_transform": START, "channel_weights": (0, 1)}
    chains = [maxca.register(*sides, **options, **more).chain for more in ({"fixed_mask": mask}, {})]
    masked, free = (np.linalg.norm(chain.map_points(points) - smooth(points), axis=1).mean() for chain in chains)
    assert masked < 0.8 * free, (masked, free)


def test_beyond_the_field_of_view_of_a_channel_the_others_decide() -> None:
    """A second channel of the lower half: in the upper half the result is about that of the first alone."""
    fixed, moving = two()
    low = Grid((SECOND.shape[0], SECOND.shape[1], SECOND.shape[2] // 2), SECOND.affine)
    slabs = [Image(side[1].data[:, :, : low.shape[2]], low) for side in (fixed, moving)]
    options = {**QUICK, "initial_transform": START}
    both = maxca.register([fixed[0], slabs[0]], [moving[0], slabs[1]], **options)
    assert phantoms.error(both.chain, smooth) < 0.5 * phantoms.error(Chain(), smooth)
    assert any("channel 2 of the fixed image shows" in line for line in both.warnings)


def test_slices_of_two_channels_are_registered_in_their_plane() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:2, 3] = -32
    where = Grid((64, 60, 1), affine)
    plane = pictures(where)
    lifted = where.affine.copy()
    lifted[2, 3] += 0.4  # less than its thickness
    second = [Image(inverted(each).data, Grid(where.shape, lifted)) for each in plane]
    result = maxca.register([plane[0], second[0]], [plane[1], second[1]], **QUICK)
    warped = result.applied["channel_2.nii.gz"]
    assert isinstance(warped, Image) and warped.data.shape == where.shape and warped.data.max() > 100
    assert result.metrics.similarity_by_channel[1].after > result.metrics.similarity_by_channel[1].before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"moving": 1}, "the fixed image has 2 channels and the moving one 1"),
        ({"channel_weights": "1,2,3"}, "channel_weights=1,2,3: give one for each channel, of which there are 2"),
        ({"similarity": "lncc,mi,mse"}, "similarity=lncc\\+mi\\+mse: give one, or one for each of 2 channels"),
        ({"preset": "longitudinal"}, "preset=longitudinal: registers one channel"),
        ({"shift": 500}, "channel 2 of the fixed image does not overlap its first channel"),
        ({"flat": True}, "every voxel is 0"),
    ],
)
def test_channels_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    fixed, moving = two()
    if "shift" in change:
        fixed[1] = replace(fixed[1], grid=Grid(SECOND.shape, SECOND.affine + np.eye(4, k=3) * change.pop("shift")))
    if change.pop("flat", False):
        moving[1] = replace(moving[1], data=np.zeros_like(moving[1].data))
    with pytest.raises(MaxcaError, match=said):
        maxca.register(fixed, moving[: change.pop("moving", 2)], **QUICK, **change)


@pytest.mark.parametrize(
    ("weights", "said"),
    [("1,x", "give numbers"), ("1,-1", "from 0 up"), ((1, float("nan")), "from 0 up"), ("0,0", "larger than 0")],
)
def test_weights_are_numbers_from_0_up(weights: Any, said: str) -> None:
    with pytest.raises(MaxcaError, match=f"channel_weights=.*{said}"):
        RegistrationOptions(channel_weights=weights)


def test_an_empty_list_and_a_slice_with_a_volume_are_refused() -> None:
    fixed, moving = two()
    with pytest.raises(MaxcaError, match="empty list of channels"):
        maxca.register([], [], **QUICK)
    piece = Image(fixed[1].data[:, :, 8:9], SECOND.box((0, 0, 8), (*SECOND.shape[:2], 9)))
    with pytest.raises(MaxcaError, match="channel 2 of the fixed image is a single slice, and its first channel"):
        maxca.register([fixed[0], piece], moving, **QUICK)
    across = Grid(piece.grid.shape, np.array(piece.grid.affine)[[2, 0, 1, 3]])
    with pytest.raises(MaxcaError, match="slice of another plane"):
        maxca.register([piece, replace(piece, grid=across)], [piece, piece], **QUICK)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    for side, images in zip(("fixed", "moving"), two(), strict=True):
        (folder / side).mkdir()
        for name, image in zip(("T1", "T2"), images, strict=True):
            phantoms.save(folder / side / f"{name}.nii.gz", image)
    series = np.stack([nib.load(folder / "fixed" / "T2.nii.gz").get_fdata()] * 3, axis=3)  # type: ignore[attr-defined]
    nib.save(nib.Nifti1Image(series.astype(np.float32), SECOND.affine), folder / "series.nii.gz")
    return folder


def words(files: Path, *more: str) -> list[str]:
    images = [str(files / side / f"{name}.nii.gz") for name in ("T1", "T2") for side in ("fixed", "moving")]
    pairs = [word for image, flag in zip(images, "fmfm", strict=True) for word in (f"-{flag}", image)]
    return ["register", *pairs, "--effort", "fast", "--model", "none", "--threads", "1", *more]


def test_the_command_line_writes_all_channels_and_can_be_repeated(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--channel-weights", "1,0.5", "--similarity", "lncc,mi", "--report"]
    assert main(words(files, *more, "-o", str(tmp_path / "out"))) == 0
    assert "lncc+mi" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"warped.nii.gz", "warped_T2.nii.gz", "transform.h5", "report.html"} <= names
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    roles = ["fixed", "fixed_2", "moving", "moving_2"]
    assert [role for role in record["inputs"] if role != "model"] == roles
    assert record["inputs"]["fixed_2"]["path"] == str((files / "fixed" / "T2.nii.gz").resolve())
    assert record["command"].count("--fixed ") == record["command"].count("--moving ") == 2
    assert "--channel-weights 1,0.5" in record["command"] and "--similarity lncc,mi" in record["command"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "warped_T2.nii.gz, weight 0.5, same contrast, mi" in page


def test_a_series_is_no_channel(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(files, "-o", str(tmp_path / "out"))
    given[given.index(str(files / "fixed" / "T2.nii.gz"))] = str(files / "series.nii.gz")
    assert main(given) == 1
    error = capsys.readouterr().err
    assert "series.nii.gz" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_evaluation_takes_channels_of_a_list(files: Path, tmp_path: Path) -> None:
    (files / "pairs.csv").write_text(
        "fixed,moving,fixed_2,moving_2\nfixed/T1.nii.gz,moving/T1.nii.gz,fixed/T2.nii.gz,moving/T2.nii.gz\n"
    )
    (pair,) = read_pairs(files / "pairs.csv")
    assert pair.further == ((files / "fixed" / "T2.nii.gz", files / "moving" / "T2.nii.gz"),)
    write_pairs(files / "again.csv", [pair, replace(pair, further=())])
    both, alone = read_pairs(files / "again.csv")
    assert [len(each.further) for each in (both, alone)] == [1, 0]
    method = parse("maxca:model=none,effort=fast,similarity=lncc+mse,channel_weights=1+0.5")
    assert parse(method.name) == method
    words = command(method, Job(pair.fixed, pair.moving, tmp_path, 1, further=both.further))
    words = words[words.index("register") + 1 :]
    images = [words[n + 1] for n, word in enumerate(words) if word in ("-f", "-m")]
    assert images == [str(files / side / f"{name}.nii.gz") for name in ("T1", "T2") for side in ("fixed", "moving")]
    out = words.index(str(tmp_path))
    words[out] = str(tmp_path / "out")
    assert main(["register", *words]) == 0
    assert Result.load(tmp_path / "out").record.settings.channel_weights == (1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed,moving,fixed_2\na.nii,a.nii,a.nii\n", "pair 1: no moving_2"),
        ("fixed,moving,fixed_3,moving_3\na.nii,a.nii,a.nii,a.nii\n", "pair 1: no fixed_2"),
        ("fixed,moving,fixed_2,moving_2\na.nii,a.nii,a.nii,b.nii\n", "moving_2 is b.nii, which does not exist"),
    ],
)
def test_a_list_with_incomplete_channels_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(MaxcaError, match=said):
        read_pairs(tmp_path / "pairs.csv")
