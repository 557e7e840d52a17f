"""``maxca.cohort``: all pairs of a list, on workers, resumable at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from maxca import plugins
from maxca.errors import MaxcaError
from maxca.io.alone import alone_in
from maxca.io.atomic import folders_of
from maxca.io.pairs import Pair, read_pairs
from maxca.options import RegistrationOptions
from maxca.version import installed_version
from maxca.workflows.cohort.options import AtlasInputs, CohortOptions
from maxca.workflows.cohort.plan import LOCATED, PLAN, Plan, PlannedPair, read_plan
from maxca.workflows.cohort.planning import make_plan
from maxca.workflows.cohort.table import write_tables
from maxca.workflows.cohort.task import Outcome, Task, register_task, stored_fingerprint

Progress = Callable[[str, float], None]
WRITTEN = 5.0  # least seconds between two writes of the plan
SHARE = 0.02  # most of the time that is spent on writing it


def cohort(
    pairs: str | Path | Sequence[Pair],
    folder: str | Path,
    options: RegistrationOptions | None = None,
    where: CohortOptions | None = None,
    *,
    atlas: AtlasInputs | None = None,
    progress: Progress = lambda _stage, _share: None,
    warn: Callable[[str], None] = lambda _line: None,
    finish: Callable[[Path], object] | None = None,
) -> Plan:
    """Register all pairs of a list; the same call resumes, after any interruption.

    A pair is registered as by ``maxca.register`` with the same options, into a folder of its own that appears when it
    is complete. Pairs that are done are not registered again unless the content of their files or the options have
    changed; those that failed only with ``retry="failed"``.

    Args:
        pairs: a list of ``maxca.io.pairs.read_pairs``, or its pairs.
        folder: of the output: ``plan.json``, ``measures.tsv`` and a folder for each pair.
        options: of all registrations; ``threads`` is 1 unless given.
        where: the workers, and which pairs.
        atlas: the fixed image of all pairs, instead of one in each pair.
        progress: called with the last pair and the completed fraction.
        warn: called with one line for each notice.
        finish: called by the worker with each complete folder before it appears, such as
            ``maxca.report.cohort.prepare_row``; a function that the workers can import.

    Returns:
        The plan, with what became of each pair.

    Raises:
        MaxcaError: for an invalid list or options, before anything is written; if nothing can be written, or the
            scheduler is lost, after which the same call resumes. A failed pair is not an error: see the plan.
    """
    where, options, folder = where or CohortOptions(), options or RegistrationOptions(), Path(folder)
    options = replace(options, threads=options.threads or 1)
    listed = _listed(pairs, atlas or AtlasInputs())
    previous = _previous(folder)
    plan = make_plan(listed, options, where.outputs, previous, progress)
    if all(pair.state == "failed" for pair in plan.pairs):
        raise MaxcaError(f"none of the {len(plan.pairs)} pairs can be read, the first for: {plan.pairs[0].error}")
    with folders_of(folder / PLAN), alone_in(folder, "another maxca cohort"):
        plan = _continued(plan, previous, folder, where, warn)
        run = _Run(plan, folder, options, progress, finish)
        try:
            run.on(where, warn)
        finally:
            run.write()
    return run.plan


def _listed(pairs: str | Path | Sequence[Pair], atlas: AtlasInputs) -> list[Pair]:
    given: dict[str, Path] = {name: Path(path) for name, path in asdict(atlas).items() if path is not None}
    if given and "fixed" not in given:
        raise MaxcaError(f"{next(iter(given))}={next(iter(given.values()))} is of fixed=FILE; pass fixed=FILE too")
    for name, path in given.items():
        if not os.path.exists(path):
            raise MaxcaError(f"{name}={path}: no such file; check the path")
    if isinstance(pairs, str | Path):
        return read_pairs(pairs, given, present=False)
    return [replace(pair, **given) for pair in pairs]  # type: ignore[arg-type]


def _previous(folder: Path) -> Plan | None:
    """The plan of an earlier run in a folder.

    Raises:
        MaxcaError: for a file, or a folder with other content.
    """
    if os.path.lexists(folder / PLAN):
        return read_plan(folder)
    if folder.exists() and not folder.is_dir():
        raise MaxcaError(f"{folder} is a file; choose a folder for the output")
    if folder.is_dir() and any(not name.startswith(".") for name in os.listdir(folder)):
        raise MaxcaError(f"{folder} exists and contains no {PLAN} of a cohort; choose another folder")
    return None


def _continued(
    plan: Plan, previous: Plan | None, folder: Path, where: CohortOptions, warn: Callable[[str], None]
) -> Plan:
    """The plan with the states of an earlier run, as far as inputs and options are the same."""
    before: Mapping[str, PlannedPair] = {pair.name: pair for pair in (previous.pairs if previous else ())}
    pairs, changed = [], 0
    for pair in plan.pairs:
        earlier, stored = before.get(pair.name), stored_fingerprint(folder / pair.name)
        if stored == pair.fingerprint:
            pair = replace(pair, state="done", error=None)
        elif earlier is not None and earlier.fingerprint == pair.fingerprint:
            if earlier.state == "failed" and pair.state == "pending" and where.retry != "failed":
                pair = replace(pair, state="failed", error=earlier.error)
        elif stored or (earlier is not None and earlier.state != "pending"):
            changed += 1
        pairs.append(pair)
    if changed:
        warn(f"{changed} pairs are registered again: their files or the options have changed")
    gone = before.keys() - {pair.name for pair in pairs}
    if gone:
        warn(f"{len(gone)} pairs are no longer in the list; their folders were left: {', '.join(sorted(gone)[:3])}, …")
    if previous is not None and previous.maxca != plan.maxca and any(pair.state == "done" for pair in pairs):
        warn(
            f"finished results are of maxca {previous.maxca}, the others of {plan.maxca}; for one version, choose "
            "another folder"
        )
    return replace(plan, pairs=pairs)


class _Run:
    """Registers the pending pairs of a plan and keeps the files of the cohort up to date."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        options: RegistrationOptions,
        progress: Progress,
        finish: Callable[[Path], object] | None,
    ) -> None:
        self.plan, self.folder, self.options, self.progress, self.finish = plan, folder, options, progress, finish
        self.pairs = {pair.name: pair for pair in plan.pairs}
        self.ended = sum(pair.state != "pending" for pair in plan.pairs)
        self.started = False  # nothing is written before the workers are there
        self.written, self.cost = time.monotonic(), 0.0

    def on(self, where: CohortOptions, warn: Callable[[str], None]) -> None:
        """Register what is pending."""
        pending = [pair for pair in self.plan.pairs if pair.state == "pending"]
        if not pending:
            self.started = True
            return
        try:
            from maxca.workflows.cohort.cluster import Needed, connected
            from maxca.workflows.cohort.stream import AGAIN, stream
        except ImportError as error:
            raise MaxcaError("a cohort needs additional packages: pip install 'maxca[cohort]'") from error
        needed = Needed(self.options.threads or 1, max(pair.memory_gb for pair in pending), len(pending))
        with connected(where, needed, self.folder, warn) as client:
            self._write_plan()
            self.started = True
            for ended in stream(client, register_task, self._tasks(pending)):
                outcome = ended.result or Outcome(ended.task.name, "failed", ended.killed)
                if outcome.state == "pending":
                    raise MaxcaError(f"{outcome.error}; {AGAIN}")
                self._note(outcome)

    def write(self) -> None:
        """Write the plan and the tables, once the run has started."""
        if self.started:
            self._write_plan()
            write_tables(self.plan, self.folder)

    def _tasks(self, pending: Sequence[PlannedPair]) -> Iterator[Task]:
        loaded, version = tuple(plugins.loaded()), installed_version()
        options = replace(self.options, **{name: self.plan.options[name] for name in LOCATED})
        for pair in pending:
            place = os.path.abspath(self.folder / pair.name)
            yield Task(
                pair.name,
                place,
                pair.inputs,
                options,
                pair.fingerprint,
                tuple(self.plan.save),
                loaded,
                version,
                self.finish,
            )

    def _note(self, outcome: Outcome) -> None:
        self.pairs[outcome.name] = replace(self.pairs[outcome.name], state=outcome.state, error=outcome.error)
        self.ended += 1
        self.progress(f"{outcome.name}: {outcome.error or outcome.state}", self.ended / len(self.pairs))
        if time.monotonic() - self.written > max(WRITTEN, self.cost / SHARE):
            self._write_plan()

    def _write_plan(self) -> None:
        begin = time.monotonic()
        self.plan = replace(self.plan, pairs=list(self.pairs.values()))
        self.plan.write(self.folder)
        self.written = time.monotonic()
        self.cost = self.written - begin
