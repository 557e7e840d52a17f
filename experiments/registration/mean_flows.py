"""Dice of pairs warped by the mean of the flows of several networks, without affine and refinement.

    python experiments/registration/mean_flows.py hearts PACKED.npz.xz --models cardiac-cine --weights maxca.safetensors

Every network predicts once per mirror image of the flips of the task; prints the Dice of each network alone, with
one and with all predictions, and of all together.
"""

from __future__ import annotations

import argparse
import io
import lzma
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from pair_samples import TASKS, Samples, Scans, warped_dice
from safetensors.torch import load_file
from torch import Tensor, nn
from train_pairs import build

from maxca.models.load import load_model
from maxca.models.zoo import find_model


def flows(network: nn.Module, fixed: Tensor, moving: Tensor, flips: tuple[int, ...]) -> list[Tensor]:
    """A flow for each mirror image, the original first."""
    found = []
    for count in range(len(flips) + 1):
        for axes in combinations(flips, count):
            dims = [2 + axis for axis in axes]
            flow = network(fixed.flip(dims), moving.flip(dims)).flow.flip(dims)
            for axis in axes:
                flow[:, axis] *= -1
            found.append(flow)
    return found


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("packed", type=Path)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--weights", nargs="*", type=Path, default=[])
    parser.add_argument("--channels", type=int, nargs=2, default=(12, 24))
    parser.add_argument("--split", default="val")
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args()
    task = TASKS[options.task]
    networks: dict[str, nn.Module] = {name: load_model(find_model(name)).network for name in options.models}
    for path in options.weights:
        trained = build(task, "maxca", tuple(options.channels))
        trained.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        networks[path.stem] = trained.network
    with np.load(io.BytesIO(lzma.decompress(options.packed.read_bytes()))) as file:
        arrays = {name: file[name] for name in file.files}
    samples = Samples(Scans(arrays, options.split, torch.device("cpu")), task, 0)
    pairs = samples.scans.pairs
    rows = []
    for number in np.linspace(0, len(pairs) - 1, min(options.pairs, len(pairs))).round().astype(int):
        pair = pairs[number]
        batch = samples.sampled([pair], samples.slices(pair), augmented=False)
        found = {
            name: flows(each.eval(), batch["fixed"], batch["moving"], task.flips) for name, each in networks.items()
        }
        row = {}
        for name, each in found.items():
            row[f"{name}, one"] = warped_dice(each[0], batch, task.labels)
            row[f"{name}, {len(each)}"] = warped_dice(torch.stack(each).mean(0), batch, task.labels)
        row["all"] = warped_dice(
            torch.stack([torch.stack(each).mean(0) for each in found.values()]).mean(0), batch, task.labels
        )
        rows.append(row)
        print(len(rows), {name: round(float(np.mean([r[name] for r in rows])), 4) for name in row}, flush=True)


if __name__ == "__main__":
    main()
