"""Accuracy of the verdict on registrations of real and manipulated scans.

    python experiments/verdict.py ../shared/data             # half an hour on one core; resumes
    python experiments/verdict.py ../shared/data --only brain/mirrored -o row.csv

Thresholds of ``maxca.report.verdict`` are chosen on the development half; the other half has other subjects. The
verdict uses images and transforms, no labels.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import maxca
from maxca.geometry import Chain
from maxca.io.images import Image
from maxca.registration.inputs import Side
from maxca.registration.record import Record
from maxca.report.verdict.judge import judge

sys.path.append(str(Path(__file__).parent))
import tables
from verdict_cases import Trial
from verdict_trials import HALVES, trials
from verdict_truth import worth

KEY = ("half", "trial")
COLUMNS = (*KEY, "truth", "measure", "value", "verdict", "reasons", "register_s", "verdict_s", "threads", "maxca")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A registration to assess: see ``maxca.report.verdict.evidence.Registered``."""

    fixed: Side
    moving: Side
    chain: Chain
    inverse: Chain
    record: Record


def outcome(trial: Trial) -> Outcome:
    """Register a trial, and manipulate the result if the trial says so."""
    fixed, moving = trial.fixed.image, trial.moving.image
    masks = {
        f"{name}_mask": Image(mask.astype(np.uint8), image.grid)
        for name, mask, image in (("fixed", trial.fixed_mask, fixed), ("moving", trial.moving_mask, moving))
        if mask is not None
    }
    result = maxca.register(fixed, moving, model="none", effort="fast", **masks, **trial.options)  # type: ignore[arg-type]
    back = trial.then.inverse()[0]
    sides = Side(fixed, trial.fixed_mask), Side(moving, trial.moving_mask)
    return Outcome(*sides, result.chain @ trial.then, back @ result.inverse, result.record)


def measured(half: str, trial: Trial, threads: int) -> dict[str, object]:
    """The row of one trial."""
    begin = time.perf_counter()
    found = outcome(trial)
    registered = time.perf_counter()
    verdict = judge(found)
    judged = time.perf_counter()
    truth, measure, value = worth(trial, found.chain)
    return {
        **dict(zip(KEY, (half, trial.name), strict=True)),
        "truth": truth,
        "measure": measure,
        "value": "" if np.isnan(value) else f"{value:.4g}",
        "verdict": verdict.state,
        "reasons": "; ".join(f"{check.name} {check.state}" for check in verdict.checks if check.state != "aligned"),
        "register_s": f"{registered - begin:.2f}",
        "verdict_s": f"{judged - registered:.2f}",
        "threads": threads,
        "maxca": maxca.__version__,
    }


def main() -> None:
    """Compute the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="with oasis, acdc, hippocampus, ms and organs")
    parser.add_argument("-o", "--output", type=Path, default=tables.RESULTS / "verdict.csv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--half", choices=HALVES, help="only this half")
    parser.add_argument("--only", help="only trials whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="only the first trial, as a test")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    known = {tuple(row[name] for name in KEY) for row in tables.read(options.output)}
    for half in HALVES:
        if options.half in (None, half):
            for trial in trials(options.root, half):
                if (half, trial.name) in known or (options.only and options.only not in trial.name):
                    continue
                row = measured(half, trial, options.threads)
                tables.write(options.output, row, COLUMNS)
                print(half, trial.name, row["truth"], row["value"], row["verdict"], row["reasons"], flush=True)
                if options.quick:
                    return


if __name__ == "__main__":
    main()
