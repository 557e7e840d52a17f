"""Speed and agreement with the CPU on a GPU; needs neither nibabel nor SimpleITK.

    python benchmarks/gpu.py PACKED OUT [--device cpu] [--parts parity,pairs,blocks]

PACKED is the output of experiments/segmentation/pack.py. Every part writes OUT/PART.json when it ends; a failure is
recorded there and does not prevent the others.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from parity.reference import Reference

from maxca.blocks import MAXCA
from maxca.engine.affine import align
from maxca.engine.settings import settings_for
from maxca.engine.volume import Volume, normalise
from maxca.geometry import Chain, Grid
from maxca.losses.similarity import LocalNCC, MutualInformation, local_window
from maxca.models.select import Predictor
from maxca.networks import build_network
from maxca.options import EffortName
from maxca.registration.deformation import deform
from maxca.registration.monitor import Monitor

EFFORTS: tuple[EffortName, ...] = ("balanced", "fast")
PAIRS = (("1107", "1101"), ("1125", "1119"), ("1003", "1004"), ("1018", "1107"))


def synchronised(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], device: torch.device, runs: int = 5) -> float:
    """Median seconds of a call after one that warms up."""
    work()
    seconds = []
    for _ in range(runs):
        synchronised(device)
        begin = time.perf_counter()
        work()
        synchronised(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def difference(found: Tensor | None, reference: Tensor | None) -> float:
    """‖found − reference‖ / ‖reference‖."""
    assert found is not None and reference is not None
    found, reference = found.detach().double().cpu(), reference.detach().double().cpu()
    return float((found - reference).norm() / reference.norm())


def parity(device: torch.device, packed: Path) -> dict[str, float]:
    """Relative differences of results and gradients from the CPU's in float64 or float32."""
    torch.manual_seed(0)
    out = {}
    block = MAXCA(24, heads=4, region=(6, 6, 4))
    x = torch.randn(1, 24, 20, 22, 17)
    with_gradient = x.clone().requires_grad_()
    block(with_gradient).square().mean().backward()
    there = x.to(device).requires_grad_()
    result = block.to(device)(there)
    result.square().mean().backward()
    out["MAXCA"] = difference(result, block.cpu()(x))
    out["MAXCA gradient"] = difference(there.grad, with_gradient.grad)
    network = build_network("corrxca")
    pair = torch.rand(2, 1, 1, 48, 40, 32)
    with torch.no_grad():
        reference = network(*pair).flow
        out["CorrXCA flow, voxels"] = float((network.to(device)(*pair.to(device)).flow.cpu() - reference).abs().max())
    grid = Grid((60, 70, 50), np.eye(4))
    fixed, moved = torch.rand(2, 60, 70, 50)
    for name, make in (
        ("local NCC", lambda v: LocalNCC(v, local_window(grid, 125).to(v.device))),
        ("mutual information", lambda v: MutualInformation(v)),
    ):
        here, far = make(fixed)(moved), make(fixed.to(device))(moved.to(device))
        out[name] = abs(float(here.value) - float(far.value)) / abs(float(here.value))
        out[f"{name} gradient"] = difference(far.gradient, here.gradient)
    return out


def brain(arrays: Any, subject: str, device: torch.device) -> tuple[Volume, Tensor]:
    """One brain as registration prepares it, and its labels."""
    name = next(k[:-6] for k in arrays.files if k.endswith(f"{subject}_image"))
    grid = Grid(arrays[f"{name}_image"].shape, np.eye(4))
    values = normalise(torch.from_numpy(arrays[f"{name}_image"].astype(np.float32)).to(device))
    return Volume(values, grid), torch.from_numpy(arrays[f"{name}_labels"].astype(np.int32))


def registered(fixed: Volume, moving: Volume, effort: EffortName, clock: dict[str, float]) -> Chain:
    """The registration of one pair without files."""
    device = fixed.values.device

    monitor = SynchronisedMonitor(device)
    with torch.no_grad():
        with monitor.stage("align"):
            found = align(fixed, moving)
        settings = settings_for(fixed.grid, effort)
        made = deform(fixed, moving, found.affine, settings, Predictor("none", device), monitor)
    clock |= monitor.seconds
    return Chain((made.field, found.affine))


class SynchronisedMonitor(Monitor):
    """Waits for the device at both ends of a stage."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        synchronised(self.device)
        with super().stage(name):
            yield
            synchronised(self.device)


def dice(fixed: Tensor, moving: Tensor, chain: Chain, grids: tuple[Grid, Grid]) -> float:
    """Mean over the labels of the fixed image, moved by nearest neighbour."""
    warped = chain.to(torch.device("cpu")).resample(moving[None], grids[1], grids[0], "nearest")[0]
    overlaps = []
    for label in fixed.unique():
        if label:
            one, other = fixed == label, warped == label
            overlaps.append(2 * float((one & other).sum()) / float(one.sum() + other.sum()))
    return float(np.mean(overlaps))


def pairs(device: torch.device, packed: Path, compared: int = 2) -> list[dict[str, Any]]:
    """Brains registered on the CPU and on the device: seconds by stage, Dice, and the distance between the two maps.

    The first pair is registered on the device twice, and the second run is reported. The CPU registers the first
    ``compared`` pairs only.
    """
    arrays = np.load(io.BytesIO(lzma.decompress((packed / "brains.npz.xz").read_bytes())))
    cpu = torch.device("cpu")
    rows = []
    for number, names in enumerate(PAIRS):
        row: dict[str, Any] = {"pair": names}
        maps = {}
        for where in (device,) * (2 if number == 0 else 1) + (cpu,) * (number < compared):
            (fixed, labels), (moving, others) = (brain(arrays, name, where) for name in names)
            for effort in EFFORTS:
                clock: dict[str, float] = {}
                begin = time.perf_counter()
                chain = registered(fixed, moving, effort, clock)
                synchronised(where)
                overlap = dice(labels, others, chain, (fixed.grid, moving.grid))
                clock |= {"seconds": round(time.perf_counter() - begin, 3), "dice": round(overlap, 4)}
                row[f"{effort} {where.type}"] = clock
                maps[effort, where.type] = chain
        points = np.argwhere(np.ones((8, 8, 8))) * 16.0
        for effort in EFFORTS if number < compared and device != cpu else ():
            ends = [maps[effort, kind].to(cpu).map_points(points) for kind in ("cpu", device.type)]
            row[f"{effort} apart, voxels"] = float(np.linalg.norm(ends[0] - ends[1], axis=1).mean())
        if device.type == "cuda":
            row["peak MB"] = round(torch.cuda.max_memory_allocated() / 2**20)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def blocks(device: torch.device, packed: Path, side: int = 96) -> list[dict[str, Any]]:
    """MAXCA compared with a literal implementation: forward, and forward and backward, in float32 and bfloat16."""
    rows = []
    region = 8
    for dtype in (torch.float32, torch.bfloat16):
        candidates: dict[str, nn.Module] = {
            "MAXCA": MAXCA(24, heads=2, region=region),
            "reference": Reference(MAXCA(24, heads=2, region=region)),
        }
        for name, block in candidates.items():
            block = block.to(device=device)
            x = torch.randn(1, 24, side, side, side, device=device)
            context = partial(torch.autocast, device.type, dtype) if dtype != torch.float32 else nullcontext

            def forward(block: Any = block, x: Tensor = x, context: Any = context) -> None:
                with torch.no_grad(), context():
                    block(x)

            def both(block: Any = block, x: Tensor = x, context: Any = context) -> None:
                with context():
                    y = block(x)
                y.float().square().mean().backward()

            row = {"block": name, "dtype": str(dtype), "side": side}
            try:
                row |= {"forward s": timed(forward, device), "both s": timed(both, device)}
                if name == "MAXCA" and device.type == "cuda":
                    compiled = torch.compile(block)
                    row["compiled both s"] = timed(partial(both, block=compiled), device)
            except Exception as error:  # measure the next variant anyway
                row["failed"] = repr(error)[:300]
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


PARTS: dict[str, Callable[..., Any]] = {"parity": parity, "pairs": pairs, "blocks": blocks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packed", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--compared", type=int, default=2, help="pairs that the CPU registers too")
    options = parser.parse_args()
    device = torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    for name in options.parts.split(","):
        begin = time.perf_counter()
        try:
            more = {"compared": options.compared} if name == "pairs" else {}
            result: Any = PARTS[name](device, options.packed, **more)
        except Exception:
            result = {"failed": traceback.format_exc()[-1500:]}
        document = {
            "card": card,
            "torch": torch.__version__,
            "seconds": round(time.perf_counter() - begin, 1),
            name: result,
        }
        (options.out / f"{name}.json").write_text(json.dumps(document, indent=1))
        print(json.dumps(document)[:3000], flush=True)


if __name__ == "__main__":
    main()
