"""The workers of a cohort: processes on this machine, jobs of SLURM, or those of a running scheduler."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import dask
import psutil
from distributed import Client, LocalCluster, Security
from distributed.utils import silence_logging_cmgr

from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.workflows.cohort.jobs import JobOptions
from maxca.workflows.cohort.options import CohortOptions

BASE_GB = 0.7  # of a worker without a pair: Python, torch and a model
LOOPBACK = "127.0.0.1"
CONNECTING = 10  # seconds
QUIET = logging.CRITICAL  # what concerns a user is said by maxca
OWN = {  # of our own scheduler and workers: they remember few ended tasks, serve no pages, and are not profiled
    "distributed.scheduler.worker-saturation": 1.0,  # a pair that waits at a worker would count as lost with it
    "distributed.worker.memory.target": False,  # nothing is held that could be spilled, and a pause would not end
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 100,
    "distributed.diagnostics.computations.max-history": 1,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


class Share(NamedTuple):
    """Processes on this machine.

    Args:
        workers: their number.
        memory: bytes at which one of them is ended, so that the others live; 0 for no limit.
        reason: why fewer than requested; empty if as many.
    """

    workers: int
    memory: int
    reason: str = ""


class Needed(NamedTuple):
    """What registrations need.

    Args:
        threads: CPU threads of each.
        memory_gb: an upper estimate of what the largest one needs.
        tasks: their number.
    """

    threads: int
    memory_gb: float
    tasks: int


@contextmanager
def connected(
    options: CohortOptions, needed: Needed, folder: Path, warn: Callable[[str], None] = lambda _line: None
) -> Iterator[Client]:
    """A client of the chosen workers, which end with the context if they were started by it.

    Without a choice within the context of another client (``with Client(…):``), it is that one.

    Args:
        options: which workers.
        needed: by the registrations.
        folder: of the output, which all workers reach under the same path.
        warn: called with a line if there are fewer workers than requested, or none yet.

    Raises:
        MaxcaError: if the scheduler does not answer, or SLURM refuses the jobs.
    """
    with silence_logging_cmgr(QUIET):
        if not options.chosen and (current := _current()) is not None:
            yield current
            return
        if options.scheduler is not None:
            with _client(options.scheduler) as client:
                if not client.nthreads():
                    warn(f"{options.scheduler} has no workers yet; start them: dask worker {options.scheduler}")
                yield client
            return
        if options.job is not None:
            with _in_jobs(options, options.job, needed, folder, warn) as client:
                yield client
            return
        share = share_of(options.workers, needed.threads, needed.memory_gb, options.memory_gb)
        if share.reason:
            warn(share.reason)
        with (
            dask.config.set(OWN),
            LocalCluster(
                n_workers=share.workers,
                threads_per_worker=1,
                memory_limit=share.memory,
                host=f"tls://{LOOPBACK}",
                security=Security.temporary(),  # other users of this machine cannot run anything on the workers
                dashboard_address=f"{LOOPBACK}:0",
                silence_logs=QUIET,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


def share_of(requested: int | None, threads: int, memory_gb: float, limit_gb: float | None = None) -> Share:
    """The number of workers, of which each registers one pair at a time.

    Args:
        requested: at most this many; by default one for each ``threads`` cores.
        threads: CPU threads of each registration.
        memory_gb: an upper estimate of what the largest registration needs.
        limit_gb: what all workers together may use; by default what is free.
    """
    free = psutil.virtual_memory().available
    if limit_gb is not None:
        free = min(free, int(limit_gb * 1e9))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = requested or max(1, cores // threads)
    fitting = max(1, int(free / ((memory_gb + BASE_GB) * 1e9)))
    workers = min(wanted, fitting)
    reason = ""
    if requested is not None and workers < requested:
        reason = (
            f"{workers} of workers={requested}: a pair needs up to {memory_gb + BASE_GB:.1f} GB and "
            f"{free / 1e9:.1f} GB of memory are available"
        )
    return Share(workers, free // workers if workers > 1 else 0, reason)


def _in_jobs(
    options: CohortOptions, job: JobOptions, needed: Needed, folder: Path, warn: Callable[[str], None]
) -> AbstractContextManager[Client]:
    try:
        from maxca.workflows.cohort.slurm import request_of, submitted
    except ImportError as error:
        raise MaxcaError("slurm needs an additional package: pip install 'maxca[slurm]'") from error
    request = request_of(job, options.workers, needed.tasks, needed.threads, needed.memory_gb + BASE_GB)
    if request.reason:
        warn(request.reason)
    return submitted(job, request, folder, OWN, warn)


def _current() -> Client | None:
    """The client whose context the caller is in, as for all functions of Dask."""
    try:
        return Client.current(allow_global=False)
    except ValueError:
        return None


def _client(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECTING)
    except TypeError as error:
        raise OptionError(
            "scheduler", address, "tls:// needs certificates in Dask's configuration; set distributed.comm.tls"
        ) from error
    except (OSError, ValueError, TimeoutError) as error:
        raise OptionError(
            "scheduler", address, "no Dask scheduler answers there; start one (dask scheduler), or correct the address"
        ) from error
