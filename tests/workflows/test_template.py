"""Templates: the mean shape of scans with a known mean, and whole templates through a real scheduler."""

from __future__ import annotations

import csv
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
import torch
from cohortpairs import WHERE
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

import maxca
from maxca.cli.main import main
from maxca.geometry import Affine, Chain, DenseField
from maxca.io.images import Image, read
from maxca.options import RegistrationOptions
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import read_plan
from maxca.workflows.template.average import sharpened, sharpness
from maxca.workflows.template.options import TemplateOptions
from maxca.workflows.template.record import read_record
from maxca.workflows.template.shape import mean_shape, mirror_of

NODES = phantoms.nodes(WHERE)
CONTENT = phantoms.inside(NODES) > 0.5
POINTS = NODES[CONTENT]
SIZES = (0.85, 1.0, 1.25)  # of the scans, relative to the phantom
COARSE = phantoms.grid((4.0, 4.0, 4.0), 84.0)
ONE_THREAD = RegistrationOptions(effort="fast", model="none", threads=1)


def pose(seed: int) -> Affine:
    random, matrix = np.random.default_rng(seed), np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(random.normal(0, 0.15, 3)).as_matrix()
    matrix[:3, 3] = random.normal(0, 15, 3)
    return Affine(matrix)


def wave(seed: int) -> np.ndarray:
    """Displacements (I, J, K, 3) in mm without an affine part that matters."""
    random = np.random.default_rng(seed)
    return 0.7 * random.normal(size=3) * np.sin(NODES @ random.normal(0, 0.15, 3) + seed)[..., None]


def field(displacement: np.ndarray) -> DenseField:
    return DenseField(torch.from_numpy(np.moveaxis(displacement, -1, 0).astype(np.float32).copy()), WHERE).faded()


def known(mean: np.ndarray) -> list[Chain]:
    """Transforms of four scans in different poses, whose shapes have a known mean displacement."""
    waves = [wave(seed) for seed in range(4)]
    return [Chain((field(mean + each - np.mean(waves, axis=0)), pose(seed))) for seed, each in enumerate(waves)]


def expected(mean: np.ndarray) -> np.ndarray:
    """The mean of the same shapes without their rigid parts, by SciPy, at POINTS."""
    waves, shapes = [wave(seed)[CONTENT] for seed in range(4)], []
    for each in waves:
        shape = POINTS + mean[CONTENT] + each - np.mean(waves, axis=0)
        rotation, _ = Rotation.align_vectors(POINTS - POINTS.mean(0), shape - shape.mean(0))
        shapes.append(rotation.apply(shape - shape.mean(0)) + POINTS.mean(0))
    return np.mean(shapes, axis=0)


def test_the_mean_shape_is_known_and_does_not_depend_on_poses() -> None:
    mean = 0.05 * (NODES - NODES[CONTENT].mean(0)) + 1.5 * np.sin(NODES[..., [1, 2, 0]] / 9)
    found = mean_shape(known(mean), WHERE, CONTENT)
    np.testing.assert_allclose(found.chain.map_points(POINTS), expected(mean), atol=0.1)
    rotated = [Chain((*chain.steps, pose(9 + number))) for number, chain in enumerate(known(mean))]
    again = mean_shape(rotated, WHERE, CONTENT)
    np.testing.assert_allclose(again.chain.map_points(POINTS), found.chain.map_points(POINTS), atol=1e-3)
    np.testing.assert_allclose(found.inverse.map_points(found.chain.map_points(POINTS)), POINTS, atol=0.15)


def test_the_mean_pose_is_that_of_scipy() -> None:
    found = mean_shape([Chain((pose(seed),)) for seed in range(5)], WHERE, CONTENT)
    expected = Rotation.from_matrix([pose(seed).matrix[:3, :3] for seed in range(5)]).mean()
    np.testing.assert_allclose(found.pose.matrix[:3, :3], expected.as_matrix(), atol=1e-5)
    np.testing.assert_allclose(found.pose.map_points(POINTS.mean(0)), POINTS.mean(0), atol=1e-2)


def test_transforms_without_the_mean_shape_have_none() -> None:
    chains = known(0.08 * NODES + 1.5 * np.sin(NODES[..., [1, 2, 0]] / 9))
    before = mean_shape(chains, WHERE, CONTENT)
    after = mean_shape([chain @ before.inverse for chain in chains], WHERE, CONTENT)
    assert before.mean_mm > 1.5 and after.mean_mm < 0.05


def test_mirrored_scans_have_a_symmetric_mean_shape() -> None:
    mirror = mirror_of(WHERE)
    np.testing.assert_allclose(mirror.map_points(np.array([[5.0, 2, 3]])), [[-5, 2, 3]])
    found = mean_shape(known(1.5 * np.sin(NODES[..., [1, 2, 0]] / 9)), WHERE, CONTENT, mirror)
    there, mirrored = found.chain.map_points(POINTS), found.chain.map_points(mirror.map_points(POINTS))
    np.testing.assert_allclose(mirror.map_points(mirrored), there, atol=1e-3)


def test_sharpness_is_measured_per_mm_and_sharpening_raises_it() -> None:
    image = phantoms.image(WHERE).data.astype(np.float32)
    assert sharpness(sharpened(image), WHERE) > 1.05 * sharpness(image, WHERE)
    assert sharpened(image).max() <= image.max() and sharpened(image).min() >= image.min()
    fine = phantoms.grid((2.0, 2.0, 2.0))
    assert sharpness(phantoms.image(fine).data.astype(float), fine) == pytest.approx(sharpness(image, WHERE), rel=0.3)


def seen(points: np.ndarray, number: int) -> np.ndarray:
    """The points of the phantom at points of a scan: another pose, size and shape for each."""
    bent = points + 1.5 * np.sin(points[..., [2, 0, 1]] / 9 + number)
    return (bent - [number, -number, 0]) @ turned(number) / SIZES[number]


def shown(points: np.ndarray, number: int) -> np.ndarray:
    """The inverse of ``seen``."""
    bent = SIZES[number] * points @ turned(number).T + [number, -number, 0]
    found = bent
    for _ in range(50):
        found = bent - 1.5 * np.sin(found[..., [2, 0, 1]] / 9 + number)
    return found


def turned(number: int) -> np.ndarray:
    return Rotation.from_rotvec([0.0, 0.0, 0.04 * (number - 1)]).as_matrix()


def around(points: np.ndarray) -> np.ndarray:
    """The ball and a margin."""
    return np.linalg.norm(points, axis=-1) < phantoms.RADIUS + 6


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom in three sizes and poses, with labels and masks, and a list of them."""
    folder = tmp_path_factory.mktemp("organs")
    rows = ["image,labels,mask"]
    for number in range(len(SIZES)):
        for name, what in (("s", phantoms.scene), ("l", phantoms.regions), ("m", around)):
            seeing = lambda points, n=number: seen(points, n)  # noqa: E731
            phantoms.save(folder / f"{name}{number}.nii.gz", phantoms.image(COARSE, seeing, what))
        rows.append(f"s{number}.nii.gz,l{number}.nii.gz,m{number}.nii.gz")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def built(organs: Path, tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    """A whole template, which several tests look at."""
    out = tmp_path_factory.mktemp("built") / "out"
    words = ("template", organs / "scans.csv", "-o", out, "--iterations", 2, "--report", "--threads", 1)
    assert main([*map(str, words), "--scheduler", address]) == 0
    return out


def volume(image: Image) -> float:
    """Of what is brighter than half of the inside."""
    half = np.median(image.data[image.data > 0.1 * image.data.max()]) / 2
    return float((image.data > half).sum() * image.grid.voxel_volume)


def by_true_transforms(what: phantoms.Map, number: int) -> np.ndarray:
    """A scan or its labels in template space, as voxels of this size allow: linear, or nearest neighbour."""
    values = phantoms.image(COARSE, lambda p: seen(p, number), what).data.astype(float)
    at = COARSE.to_voxel(shown(phantoms.nodes(COARSE) / np.mean(SIZES), number))
    return map_coordinates(values, np.moveaxis(at, -1, 0), order=int(what is phantoms.scene))


def best() -> tuple[float, float]:
    """Mean Dice of the labels, and sharpness of the mean, by the true transforms."""
    maps = [by_true_transforms(phantoms.regions, number) for number in range(len(SIZES))]
    scores = [
        2 * ((a == label) & (b == label)).sum() / ((a == label).sum() + (b == label).sum())
        for a, b in combinations(maps, 2)
        for label in range(1, 5)
    ]
    mean = np.mean([by_true_transforms(phantoms.scene, number) for number in range(len(SIZES))], axis=0)
    return float(np.mean(scores)), sharpness(mean, COARSE)


def test_a_template_has_the_mean_size_and_no_bias(organs: Path, built: Path) -> None:
    record, template = read_record(built), read(built / "template.nii.gz")
    assert record.bias_mm is not None and record.bias_mm <= 0.05
    for place in sorted(built.glob("iterations/*/registrations")):
        assert [Path(pair.inputs["moving_mask"].path).name[0] for pair in read_plan(place).pairs] == ["m"] * len(SIZES)
    mean = np.mean([volume(read(organs / f"s{number}.nii.gz")) ** (1 / 3) for number in range(len(SIZES))])
    assert volume(template) ** (1 / 3) == pytest.approx(mean, rel=0.02)  # that of the first scan is 18 % smaller
    with (built / "iterations.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["number"] for row in rows] == ["0", "1"]
    assert float(rows[0]["shape_mm"]) > 2 > 0.75 > float(rows[1]["shape_mm"])
    page = (built / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3 and page.count('src="data:image/') == 3 + 3 + len(SIZES) and "s2.nii.gz" in page
    dice, sharp = best()
    assert float(rows[1]["dice"]) > dice - 0.01
    assert float(rows[1]["sharpness"]) > 0.95 * sharp


def test_the_transforms_are_those_that_itk_resamples_with(organs: Path, built: Path) -> None:
    template = read(built / "template.nii.gz")
    inside = template.data > 300
    for number in range(len(SIZES)):
        transform = sitk.ReadTransform(str(built / "transforms" / f"s{number}.h5"))
        scan = sitk.ReadImage(str(organs / f"s{number}.nii.gz"), sitk.sitkFloat32)
        warped = sitk.Resample(scan, sitk.ReadImage(str(built / "template.nii.gz")), transform, sitk.sitkLinear)
        assert np.corrcoef(sitk.GetArrayFromImage(warped).T[inside], template.data[inside])[0, 1] > 0.95
        back = sitk.ReadTransform(str(built / "transforms" / f"s{number}_inverse.h5"))
        for point in [(3.0, 4.0, 5.0), (-8.0, 6.0, -5.0)]:
            assert np.linalg.norm(np.subtract(back.TransformPoint(transform.TransformPoint(point)), point)) < 0.3


def test_it_resumes_with_what_is_there(organs: Path, built: Path, address: str) -> None:
    before = (built / "template.nii.gz").read_bytes()
    (built / "template.nii.gz").unlink()
    shutil.rmtree(built / "iterations" / "01" / "registrations" / "s1")
    kept = {path: path.stat().st_mtime_ns for path in built.glob("iterations/*/registrations/*/transform.h5")}
    where = CohortOptions(scheduler=address)
    again = maxca.build_template([organs / "scans.csv"], built, TemplateOptions(iterations=2), ONE_THREAD, where)
    assert (built / "template.nii.gz").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept and len(kept) == 5
    assert sorted(again.chains) == ["s0", "s1", "s2"]


def test_a_symmetric_sharpened_template_of_scans_without_labels(organs: Path, tmp_path: Path, address: str) -> None:
    files = [organs / f"s{number}.nii.gz" for number in (1, 2)]
    options = TemplateOptions(iterations=1, symmetric=True, sharpen=True)
    found = maxca.build_template(files, tmp_path / "out", options, ONE_THREAD, CohortOptions(scheduler=address))
    np.testing.assert_allclose(found.image.data, found.image.data[::-1], atol=1e-2)
    assert found.record.iterations[0].dice is None and found.record.bias_mm is not None and found.record.bias_mm < 0.05


def test_scans_of_different_fields_of_view_are_not_pulled_to_their_faces(tmp_path: Path, address: str) -> None:
    files = []
    for number, size in enumerate((44.0, 36.0, 40.0)):  # all within the ball: content at every face
        where = phantoms.grid((4.0, 4.0, 4.0), size)
        files.append(phantoms.save(tmp_path / f"c{number}.nii.gz", phantoms.image(where)))
    options = TemplateOptions(iterations=2)
    found = maxca.build_template(files, tmp_path / "out", options, ONE_THREAD, CohortOptions(scheduler=address))
    # The scans are equal where they overlap. A mean of all of them, which fades where one ends, would give 2.5 mm.
    assert found.record.iterations[1].shape_mm < 1


def test_a_template_of_two_channels_ends_when_the_transforms_settle(tmp_path: Path, address: str) -> None:
    rows = ["image,image_2"]
    for number in range(2):
        for name, what in (("a", phantoms.scene), ("b", lambda p: 200 - phantoms.scene(p) / 4)):
            seeing = lambda points, n=number: seen(points, n)  # noqa: E731
            phantoms.save(tmp_path / f"{name}{number}.nii.gz", phantoms.image(COARSE, seeing, what))
        rows.append(f"a{number}.nii.gz,b{number}.nii.gz")
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    where = CohortOptions(scheduler=address)
    found = maxca.build_template([tmp_path / "scans.csv"], tmp_path / "out", TemplateOptions(iterations=6), where=where)
    first, second = (read(tmp_path / "out" / name).data for name in ("template.nii.gz", "template_2.nii.gz"))
    inside = first > 300
    assert np.corrcoef(first[inside], second[inside])[0, 1] < -0.9
    plan = read_plan(tmp_path / "out/iterations/01/registrations")
    assert {"moving_2", "fixed_2", "initial_transform"} < plan.pairs[0].inputs.keys()
    assert found.record.converged and len(found.record.iterations) < 6
    assert found.record.iterations[-1].moved_mm < 0.2 * COARSE.smallest_spacing


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ("image\ns0.nii.gz\n", (), "1 scan; a template needs at least two"),
        ("image,labels\ns0.nii.gz,l0.nii.gz\ns1.nii.gz,\n", (), "some scans have labels and others do not"),
        ("image\ns0.nii.gz\nnowhere.nii.gz\n", (), "nowhere.nii.gz: no such file; check the path"),
        ("image,side\ns0.nii.gz,left\n", (), "unknown column 'side'"),
        ("image\ns0.nii.gz\ns0.nii.gz\n", (), "s0.nii.gz: given twice; give every scan once"),
        ("image,image_2\ns0.nii.gz,s1.nii.gz\ns2.nii.gz,\n", (), "some scans have more channels than others"),
        ("image,image_3\ns0.nii.gz,s1.nii.gz\ns2.nii.gz,\n", (), "row 1: no image_2; channels are numbered"),
        ("image\ns0.nii.gz\ns1.nii.gz\n", ("--iterations", "0"), "--iterations"),
    ],
)
def test_what_makes_no_template_is_said_in_one_line(
    organs: Path, tmp_path: Path, rows: str, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in organs.glob("*.nii.gz"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "list.csv").write_text(rows)
    assert main(["template", str(tmp_path / "list.csv"), "-o", str(tmp_path / "out"), *words]) != 0
    error = capsys.readouterr().err.strip()
    assert said in error and error.count("\n") == 0 and not (tmp_path / "out").exists()
