"""Computation of the missing rows of an evaluation: every method on every pair."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from maxca import plugins
from maxca.errors import MaxcaError
from maxca.evaluate import methods as ways
from maxca.evaluate.methods import Job, Method
from maxca.evaluate.options import EvaluationOptions
from maxca.evaluate.processes import run
from maxca.evaluate.rows import (
    COLUMNS,
    LABEL_COLUMNS,
    SUMMARY_COLUMNS,
    Row,
    alone,
    append,
    check_markdown,
    check_table,
    keep_labels,
    key,
    label_file,
    read_rows,
    summary_file,
)
from maxca.io.atomic import check_new_file
from maxca.io.cells import neutral
from maxca.io.pairs import Pair, read_pairs

Progress = Callable[[str, float], None]
PATIENCE = 0.2  # seconds after a failure within which a signal to this process explains it


def evaluate(
    pairs: str | Path,
    out: str | Path,
    methods: Sequence[Method],
    options: EvaluationOptions | None = None,
    *,
    progress: Progress = lambda _stage, _share: None,
    warn: Callable[[str], None] = lambda _line: None,
) -> int:
    """Evaluate methods on pairs; existing rows are not computed again.

    Methods alternate pair by pair, so that other load on the machine affects all of them. A registration starts from
    the raw pair in a new process, whose wall time (including start-up, reading, affine and writing) and peak memory are
    measured; warping labels and scoring are not part of the timing.

    Args:
        pairs: the list, see ``io.pairs``.
        out: a CSV file; the rows of labels are written to ``…-labels.csv``.
        methods: to compare.
        options: selection of pairs, threads and jobs.
        progress: called with the completed task and the completed fraction.
        warn: called with warnings on the files of the pairs, once for each.

    Returns:
        The number of added rows.

    Raises:
        MaxcaError: for invalid lists, files or methods, for a table with rows of other images or another model of the
            same name, or in use by another evaluation; if a registration is terminated by a signal from outside. A
            failed registration is a row.
    """
    options, source, out = options or EvaluationOptions(), Path(pairs), Path(out)
    chosen = _chosen(source, options)
    name = options.name or source.resolve().parent.name
    methods = list(dict.fromkeys(methods))
    _check_methods(methods, chosen)
    _check_tables(out)
    with alone(out):
        done = {key(row): row for row in read_rows(out)}
        tasks = []
        for number, pair in chosen:
            for method in methods:
                row = done.get(key({"set": name, "pair": number, "method": method.name}))
                if row is None:
                    tasks.append(Task(method, number, pair, name, source, options.threads))
                elif what := contradiction(row, method, pair, source):
                    raise MaxcaError(f"{out}: its row {name} {number} {method.name} is of {what}; choose another table")
        keep_labels(out, done)
        _Writer(out, len(tasks), progress, warn).run(tasks, options.jobs)
        return len(tasks)


@dataclass(frozen=True)
class Task:
    """A missing row.

    Args:
        method: of registration.
        number: index of the pair in its list, from 0.
        pair: its files.
        name: of the set of pairs.
        source: the list.
        threads: of the registration.
    """

    method: Method
    number: int
    pair: Pair
    name: str
    source: Path
    threads: int


class _Writer:
    """Runs tasks and adds their rows to a table."""

    def __init__(self, out: Path, total: int, progress: Progress, warn: Callable[[str], None]) -> None:
        self.out, self.total, self.progress, self.warn = out, total, progress, warn
        self.lock, self.ending = threading.Lock(), threading.Event()
        self.finished = 0
        self.warned: set[str] = set()

    def run(self, tasks: Sequence[Task], jobs: int) -> None:
        """Run tasks, ``jobs`` in parallel; the first exception stops all."""
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            futures = [pool.submit(self._add, task) for task in tasks]
            try:
                ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in ended:
                    future.result()
            except BaseException:
                self.ending.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _add(self, task: Task) -> None:
        row, labels = measure(task)
        warnings = row.pop("warnings", [])
        # A signal to all processes may appear as any failure: some libraries drop it while loading.
        if row["error"] and self.ending.wait(PATIENCE):
            return
        with self.lock:
            append(label_file(self.out), labels, LABEL_COLUMNS)
            append(self.out, [row])
            for warning in warnings:
                if warning not in self.warned:
                    self.warned.add(warning)
                    self.warn(warning)
            self.finished += 1
            outcome = row["error"] or f"Dice {row['dice']:.4f}" if row.get("dice") or row["error"] else "done"
            self.progress(f"{task.name} {task.number} {task.method.name}: {outcome}", self.finished / self.total)


def _chosen(source: Path, options: EvaluationOptions) -> list[tuple[int, Pair]]:
    """The pairs to evaluate, with their indices."""
    chosen = [
        (number, pair)
        for number, pair in enumerate(read_pairs(source))
        if (options.group is None or pair.group == options.group) and (not options.pair or number in options.pair)
    ][: options.limit]
    if not chosen:
        raise MaxcaError(
            f"{source}: no pair is left to evaluate; check group={options.group or 'NAME'} and pair=NUMBER"
        )
    return chosen


def _check_methods(methods: Sequence[Method], chosen: Sequence[tuple[int, Pair]]) -> None:
    for method in methods:
        method.check()
        if [other.name for other in methods].count(method.name) > 1:
            raise MaxcaError(f"two methods have the name {method.name} in the table; rename their files")
        if method.folder is not None:
            for number, pair in chosen:
                ways.given_transform(method.folder, number, pair.fixed, pair.moving)


def _check_tables(out: Path) -> None:
    if out.suffix.lower() != ".csv":
        raise MaxcaError(f"{out}: the table must end in .csv; a .md is written in addition")
    check_new_file(out, (".csv",), overwrite=True)
    for path, columns in ((out, COLUMNS), (label_file(out), LABEL_COLUMNS), (summary_file(out), SUMMARY_COLUMNS)):
        check_table(path, columns)
    check_markdown(out.with_suffix(".md"))


def contradiction(row: Row, method: Method, pair: Pair, source: Path) -> str:
    """Why an existing row is not valid for a method on a pair; empty if it is valid."""
    root = _folder_of(source)
    if (row["fixed"], row["moving"]) != (neutral(_below(pair.fixed, root)), neutral(_below(pair.moving, root))):
        return f"other images ({row['fixed']}, {row['moving']})"
    there, now = (versions.partition(ways.WEIGHTS)[2] for versions in (row["versions"], method.versions))
    return "another model of that name" if there and there != now else ""


def measure(task: Task) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Register and score one pair by one method: its row, and those of its labels. A failure is a row too."""
    method, number, pair, threads = task.method, task.number, task.pair, task.threads
    root = _folder_of(task.source)
    row: dict[str, Any] = {
        "set": task.name,
        "pair": number,
        "method": method.name,
        "fixed": _below(pair.fixed, root),
        "moving": _below(pair.moving, root),
        "group": pair.group,
        "threads": threads,
        "versions": method.versions,
        "error": "",
    }
    environment = ways.environment(threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "out"
        folder.mkdir()
        files = {f.name: path for f in fields(pair) if isinstance(path := getattr(pair, f.name), Path)}
        kind = kind_of(pair.fixed, environment) if method.tool in ways.PEERS else ""
        command = ways.command(method, Job(pair.fixed, pair.moving, folder, threads, kind, files, pair.further))
        if command:
            usage = run(command, environment)
            row |= {"seconds": usage.seconds, "peak_mb": usage.peak_mb}
            if usage.error:
                return row | {"error": usage.error.replace(f"{root}/", "")}, []
        job: dict[str, Any] = {
            "tool": method.tool,
            "folder": str(folder),
            "pair": dict(zip(files, map(str, files.values()), strict=True)),
            "plugins": plugins.loaded(),
        }
        if method.folder is not None:
            job["transform"] = str(ways.given_transform(method.folder, number, pair.fixed, pair.moving))
            job["matrix_convention"] = method.matrix_convention
        judged = run([sys.executable, "-m", "maxca.evaluate.scores", json.dumps(job)], environment)
    if judged.error:
        return row | {"error": judged.error.replace(f"{root}/", "")}, []
    scores = json.loads(judged.output.splitlines()[-1])
    labels = [
        {"set": task.name, "pair": number, "method": method.name, "label": label}
        | dict(zip(LABEL_COLUMNS[4:], values, strict=True))
        for label, values in scores.pop("labels", {}).items()
    ]
    return row | scores, labels


def kind_of(fixed: Path, environment: Mapping[str, str]) -> str:
    """Kind of the settings of other tools for an image, determined in a process that is not timed."""
    usage = run([sys.executable, "-m", "maxca.evaluate.peers", "kind", str(fixed)], environment)
    return usage.output.strip() or "volume"  # an unreadable image is reported by the tool


def _folder_of(source: Path) -> Path:
    return Path(os.path.abspath(source)).parent


def _below(path: Path, root: Path) -> str:
    """A path relative to the list of pairs; links are not followed, so that a table names no place of one machine."""
    path = Path(os.path.abspath(path))
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
