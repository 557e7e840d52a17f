"""One small valid file for every reader there is; what is damaged by the fuzzer."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch

import maxca
from maxca.datasets.brain import read_bids
from maxca.datasets.hippocampus import read_split
from maxca.datasets.prepared import read_prepared
from maxca.evaluate.rows import COLUMNS, append, read_rows
from maxca.geometry import Affine, Chain, DenseField, Grid
from maxca.io.images import read, write
from maxca.io.pairs import Pair, read_pairs, write_pairs
from maxca.io.points import Points, read_points, write_points
from maxca.io.transforms import read_transform, write_transform
from maxca.models.domain import Domain
from maxca.models.load import Model, load_model, read_domain
from maxca.models.segmentation import Segmenter
from maxca.models.segmentation_file import load_any, save_segmenter
from maxca.networks import NetworkConfig
from maxca.networks.segmentation import SegmentationUNet
from maxca.report.case import read_case
from maxca.training.recipes import hippocampus
from maxca.training.run import Run, read_about

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "training"), str(HERE.parent / "cases"), str(HERE.parent / "io")]
import prepared_data  # noqa: E402
from test_case_dicom import series  # noqa: E402
from test_freesurfer import morph  # noqa: E402

SIZE = (9, 8, 7)
GRID = Grid(SIZE, np.array([[-1.5, 0, 0, 5], [0, 1.0, 0.2, -4], [0, -0.2, 1.0, 3], [0, 0, 0, 1]]))


@dataclass(frozen=True)
class Subject:
    """A folder with a file that a reader takes.

    Args:
        name: of the kind of file.
        folder: holds the file and what belongs to it, nothing else.
        file: the name of the file that is damaged.
        read: called with the folder.
    """

    name: str
    folder: Path
    file: str
    read: Callable[[Path], Any]


def build(root: Path) -> list[Subject]:
    """Make all files below a folder."""
    found = []
    for make in (
        _images,
        _foreign_images,
        _transforms,
        _foreign_transforms,
        _points,
        _lists,
        _models,
        _results,
        _training,
    ):
        for name, file, reader in make(root):
            found.append(Subject(name, root / name, file, reader))
    return found


Made = Iterator[tuple[str, str, Callable[[Path], Any]]]


def _voxels() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 900, SIZE).astype(np.int16)


def _place(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def _images(root: Path) -> Made:
    for suffix in (".nii", ".nii.gz", ".mha", ".nrrd"):
        name = f"ours{suffix}"
        write(_voxels(), GRID, _place(root, name) / f"a{suffix}")
        yield name, f"a{suffix}", lambda at, suffix=suffix: read(at / f"a{suffix}")


def _foreign_images(root: Path) -> Made:
    for suffix in (".mgh", ".mgz"):
        name = f"freesurfer{suffix}"
        nib.save(nib.MGHImage(_voxels(), GRID.affine), _place(root, name) / f"a{suffix}")
        yield name, f"a{suffix}", lambda at, suffix=suffix: read(at / f"a{suffix}")
    nib.save(nib.Nifti1Pair(_voxels(), GRID.affine), _place(root, "pair") / "a.img")
    yield "pair", "a.hdr", lambda at: read(at / "a.hdr")
    nib.save(nib.Nifti2Image(_voxels(), GRID.affine), _place(root, "nifti2") / "a.nii.gz")
    yield "nifti2", "a.nii.gz", lambda at: read(at / "a.nii.gz")
    image = sitk.GetImageFromArray(_voxels().T)
    for suffix, packed in ((".mha", False), (".mhd", True), (".mhd", False), (".nrrd", False), (".nhdr", True)):
        name = f"itk{suffix}-{'packed' if packed else 'raw'}"
        sitk.WriteImage(image, str(_place(root, name) / f"a{suffix}"), useCompression=packed)
        yield name, f"a{suffix}", lambda at, suffix=suffix: read(at / f"a{suffix}")
    series(root / "dicom")
    yield "dicom", "2.dcm", read


def _transforms(root: Path) -> Made:
    affine = Affine(np.array([[1, 0.1, 0, 2], [-0.1, 1, 0, 3], [0, 0, 1.1, -4], [0, 0, 0, 1.0]]))
    motion = torch.randn(3, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    field = DenseField(motion, Grid((4, 5, 3), GRID.affine))
    for suffix, chain in (
        (".h5", Chain((affine, field))), (".tfm", Chain((affine,))), (".mat", Chain((affine,))),
        (".txt", Chain((affine,))), (".nii.gz", Chain((field,))), (".nii", Chain((field,))),
    ):  # fmt: skip
        name = f"transform{suffix}"
        write_transform(chain, _place(root, name) / f"t{suffix}")
        yield name, f"t{suffix}", lambda at, suffix=suffix: read_transform(at / f"t{suffix}")
    itk = sitk.CompositeTransform([sitk.AffineTransform(3), sitk.Euler3DTransform()])
    itk.WriteTransform(str(_place(root, "itk.h5") / "t.h5"))
    yield "itk.h5", "t.h5", lambda at: read_transform(at / "t.h5")
    vectors = sitk.GetImageFromArray(motion.permute(3, 2, 1, 0).numpy().astype(np.float32), isVector=True)
    for suffix in (".mha", ".nrrd"):
        name = f"field{suffix}"
        sitk.WriteImage(vectors, str(_place(root, name) / f"t{suffix}"), useCompression=True)
        yield name, f"t{suffix}", lambda at, suffix=suffix: read_transform(at / f"t{suffix}")
    np.savetxt(_place(root, "matrix") / "m.txt", affine.matrix)
    yield "matrix", "m.txt", lambda at: read_transform(at / "m.txt", matrix_convention="ras")


def _foreign_transforms(root: Path) -> Made:
    """Files of other tools, all between images on ``GRID``."""
    affine = Affine(np.array([[1, 0.1, 0, 2], [-0.1, 1, 0, 3], [0, 0, 1.1, -4], [0, 0, 0, 1.0]]))
    field = DenseField(torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(1)), GRID)
    for tool, file, chain in (
        ("fsl", "t.mat", Chain((affine,))), ("fsl", "t.nii", Chain((field,))), ("spm", "t.nii", Chain((field,))),
        ("freesurfer", "t.lta", Chain((affine,))), ("niftyreg", "t.nii.gz", Chain((field,))),
        ("afni", "t.1D", Chain((affine,))), ("afni", "t.nii", Chain((field,))), ("elastix", "t.txt", Chain((affine,))),
        ("x5", "t.x5", Chain((field, affine))),
    ):  # fmt: skip
        name = f"{tool} {file}"
        write_transform(chain, _place(root, name) / file, tool=tool, images=(GRID, GRID))  # type: ignore[arg-type]
        convention = "fsl" if file == "t.mat" else None
        yield name, file, lambda at, file=file, said=convention: read_transform(at / file, said, (GRID, GRID))
    for file in ("t.m3z", "t.m3d"):
        content = morph(GRID, GRID)
        (_place(root, file) / file).write_bytes(gzip.compress(content) if file == "t.m3z" else content)
        yield file, file, lambda at, file=file: read_transform(at / file)


def _points(root: Path) -> Made:
    points = Points(np.array([[1.0, 2, 3], [-4, 5.5, 6], [0, 0, 1e-3]]), ("a", "b, c", "ü"))
    for suffix in (".csv", ".fcsv", ".mrk.json"):
        name = f"points{suffix}"
        write_points(points, _place(root, name) / f"p{suffix}")
        yield name, f"p{suffix}", lambda at, suffix=suffix: read_points(at / f"p{suffix}")


def _lists(root: Path) -> Made:
    folder = _place(root, "pairs.csv")
    for name in ("a.nii", "b.nii"):
        (folder / name).touch()
    write_pairs(folder / "pairs.csv", [Pair(folder / "a.nii", folder / "b.nii", group="x")] * 2)
    yield "pairs.csv", "pairs.csv", lambda at: read_pairs(at / "pairs.csv")
    folder = _place(root, "pairs.json")
    for name in ("a.nii", "b.nii"):
        (folder / name).touch()
    (folder / "pairs.json").write_text(json.dumps([{"fixed": "a.nii", "moving": "b.nii"}] * 2))
    yield "pairs.json", "pairs.json", lambda at: read_pairs(at / "pairs.json")
    row = dict.fromkeys(COLUMNS, "") | {"set": "x", "pair": 0, "method": "greedy", "dice": 0.5, "threads": 2}
    append(_place(root, "table") / "rows.csv", [row, row | {"pair": 1}])
    yield "table", "rows.csv", lambda at: read_rows(at / "rows.csv")
    folder = _place(root, "split")
    scan = folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz"
    os.makedirs(scan.parent)
    scan.touch()
    (folder / "split.json").write_text(json.dumps({"train": ["1"], "val": ["2"], "rescans": [["1", "1b"]]}))
    yield "split", "split.json", lambda at: (read_split(at), read_bids(at))


def _models(root: Path) -> Made:
    config = NetworkConfig("corrxca_tiny", {"levels": 2, "block": {"name": "conv"}})
    domain = Domain(((10.0, 20.0),) * 3, "lncc", 0.1)
    network = Model(config.build(), config, (1.0, 1.0, None), domain=domain, mirror=(0,), shape=(32, 32, None))
    network.save(_place(root, "model") / "m.safetensors")
    yield "model", "m.safetensors", lambda at: (read_domain(at / "m.safetensors"), load_model(at / "m.safetensors"))
    unet = SegmentationUNet(3, channels=(4, 6), strides=((2, 2, 2),), depth=1, embedding=4)
    segmenter = Segmenter(unet, {0: "background", 1: "a", 7: "b"}, extent_mm=((10.0, 20.0),) * 3)
    save_segmenter(segmenter, _place(root, "segmentation") / "m.safetensors")
    yield "segmentation", "m.safetensors", lambda at: load_any(at / "m.safetensors")


def _results(root: Path) -> Made:
    scans = root / "scans"
    scans.mkdir()
    ball = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    for name, shift in (("f", 0), ("m", 1)):
        data = np.roll(np.where(ball < 6, 100 + 40 * np.sin(ball), 0), shift, axis=0).astype(np.float32)
        write(data, Grid(data.shape, np.eye(4)), scans / f"{name}.nii")
    result = maxca.register(scans / "f.nii", scans / "m.nii", model="none", effort="fast", threads=1)
    for name, file in (
        ("result", "result.json"),
        ("result transform", "transform.h5"),
        ("warped", "inverse_transform.h5"),
    ):
        folder = _place(root, name)
        result.write_into(folder, save_field=False)
        yield name, file, read_case


def _training(root: Path) -> Made:
    prepared_data.make(root / "prepared", 3)
    yield "prepared", "manifest.json", read_prepared
    prepared_data.make(root / "prepared scan", 3)
    yield "prepared scan", "scans/s0.safetensors", _first_scan
    folder = _place(root, "run")
    (folder / "run.json").write_text(json.dumps({"config": hippocampus().as_plain(), "data": "0"}))
    yield "run", "run.json", read_about
    folder = _place(root, "log")
    (folder / "log.csv").write_text("step,loss,seconds\n1,0.5,2\n2,0.25,4\n")
    yield "log", "log.csv", lambda at: Run(at).trim_log(9)
    folder = _place(root, "checkpoint")
    torch.save({"step": 3, "best": 0.0, "weights": {"a": torch.ones(3)}}, folder / "checkpoint.pt")
    yield "checkpoint", "checkpoint.pt", lambda at: Run(at).checkpoint(torch.device("cpu"))


def _first_scan(folder: Path) -> Any:
    data = read_prepared(folder)
    return data.load(data.scans[0])
