"""Workers in jobs of SLURM, by dask-jobqueue; lost jobs are submitted again, and jobs that cannot work are reported."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dask
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Client, Future, Security

from maxca.errors import MaxcaError, one_line
from maxca.fields import OptionError
from maxca.workflows.cohort.jobs import SLURM, JobOptions

MOST_JOBS = 16  # unless a number is given
CHECKED = 5.0  # seconds between looks at the queue
PATIENCE = 60.0  # seconds without any worker, after which the reason is reported
ATTEMPTS = 3  # of each job to connect, while no other one works
NANNY_GB = 0.2  # of a job, for the process that starts its workers again
NAME = "maxca-cohort"
FAULT = re.compile(r"error|not found|no such|denied|killed", re.IGNORECASE)
FOLDER = ".slurm"  # in the output: keys, settings, logs; the jobs and this machine see it under one path
WORKERS = {  # their settings, in addition to those of our own scheduler
    "distributed.scheduler.allowed-failures": 9,  # a preempted job is no fault of its pair
    "distributed.comm.require-encryption": True,
    "distributed.deploy.lost-worker-timeout": "60s",  # for a worker to be started again by its job
}


class Request(NamedTuple):
    """The jobs of a cohort.

    Args:
        jobs: their number.
        processes: of each job, which register one pair each.
        cores: of each job.
        memory: of each job, in bytes.
        reason: why a job registers fewer pairs at a time than it has cores for; empty otherwise.
    """

    jobs: int
    processes: int
    cores: int
    memory: int
    reason: str = ""


def request_of(job: JobOptions, jobs: int | None, pairs: int, threads: int, pair_gb: float) -> Request:
    """The jobs for some pairs.

    Args:
        job: what was given.
        jobs: their number, if it was given.
        pairs: that are registered.
        threads: CPU threads of each registration.
        pair_gb: memory of a worker with the largest pair, in GB.
    """
    cores = job.cores or threads
    each = int(pair_gb * 1e9)
    wanted = min(max(1, cores // threads), pairs)
    given = job.memory_bytes
    processes = wanted if given is None else max(1, min(wanted, given // each))
    reason = ""
    if given is not None and given < each * wanted:
        reason = (
            f"a pair needs up to {pair_gb:.1f} GB: a job with memory={job.memory} registers {processes} at a time; "
            "request more memory"
        )
    most = -(-pairs // processes)
    return Request(
        min(jobs or MOST_JOBS, most), processes, cores, given or each * processes + int(NANNY_GB * 1e9), reason
    )


@contextmanager
def submitted(
    job: JobOptions, request: Request, folder: Path, settings: dict[str, Any], warn: Callable[[str], None]
) -> Iterator[Client]:
    """A client of workers in jobs of SLURM, which are cancelled at the end.

    Args:
        job: what was given.
        request: the jobs.
        folder: of the output, which the nodes reach under the same path.
        settings: of Dask.
        warn: called with a line if jobs do not start.

    Raises:
        MaxcaError: if SLURM is not there or refuses such jobs; if jobs end before their workers connect.
    """
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise OptionError(SLURM, _text(job), f"no {program} on this machine; run maxca on a login node of SLURM")
    place = Path(os.path.abspath(folder)) / FOLDER
    shutil.rmtree(place, ignore_errors=True)  # of a client that was killed
    place.mkdir(mode=0o700, parents=True)
    try:
        shared = settings | WORKERS | _keys(place)
        (place / "dask.yaml").write_text(json.dumps(_nested(shared)), encoding="utf-8")
        with dask.config.set(shared), _started(job, request, place) as cluster:
            _check_accepted(job, cluster, place)
            with Client(cluster) as client, Keeper(cluster, client, request.jobs, place, warn).running():
                yield client
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _started(job: JobOptions, request: Request, place: Path) -> SLURMCluster:
    try:
        return _cluster(job, request, place)
    except (RuntimeError, ValueError, OSError) as error:  # such as an unknown network interface
        raise OptionError(SLURM, _text(job), f"the scheduler does not start: {_reason(str(error))}") from error


def _cluster(job: JobOptions, request: Request, place: Path) -> SLURMCluster:
    given = {"--qos": job.qos, "--constraint": job.constraint, "--reservation": job.reservation, "--gres": job.gres}
    log = f"{shlex.quote(str(place))}/$SLURM_JOB_ID.log"
    return Cluster(
        queue=job.partition,
        account=job.account,
        walltime=job.walltime,
        job_directives_skip=[*_configured("job-directives-skip"), *([] if job.walltime else ["#SBATCH -t "])],
        cores=request.cores,
        processes=request.processes,
        memory=f"{request.memory} B",
        job_mem=f"{-(-request.memory // 2**20)}M",
        job_name=NAME,
        job_extra_directives=[
            *_configured("job-extra-directives"),
            *(f"{name}={value}" for name, value in given.items() if value is not None),
            *("--no-requeue", "--output=/dev/null", "--error=/dev/null"),  # it is submitted again, under another number
        ],
        job_script_prologue=[
            *_configured("job-script-prologue"),
            f"exec >{log} 2>&1",
            f"export DASK_CONFIG={shlex.quote(str(place / 'dask.yaml'))}",
        ],
        worker_extra_args=[*_configured("worker-extra-args"), "--no-dashboard"],
        python=shlex.quote(sys.executable),
        interface=job.interface,
        protocol="tls://",
        scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        silence_logs="critical",
    )


def _configured(name: str) -> list[str]:
    """A list of the user's jobqueue.yaml."""
    return list(dask.config.get(f"jobqueue.slurm.{name}", None) or [])


class Job(SLURMJob):
    """A job that remembers why SLURM refused it."""

    refused = ""

    async def start(self) -> None:
        """Submit it; what SLURM says against it is for the keeper."""
        try:
            await super().start()
        except (RuntimeError, OSError, ValueError) as error:
            self.refused = _reason(str(error))


class Cluster(SLURMCluster):
    """A scheduler in this process, and such jobs."""

    job_cls = Job


@dataclass
class Keeper:
    """Submits lost jobs again, and reports why jobs do not start.

    Args:
        cluster: of the jobs.
        client: of the cluster, whose tasks are cancelled if no job works.
        jobs: their number.
        place: of their logs.
        warn: called with one line.
    """

    cluster: SLURMCluster
    client: Client
    jobs: int
    place: Path
    warn: Callable[[str], None]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the queue meanwhile.

        Raises:
            MaxcaError: with the reason, if no job works.
        """
        self.fault, self.ended, self.warned = "", threading.Event(), set[str]()
        self.lost, self.since = 0, time.monotonic()
        self.cluster.scale(jobs=self.jobs)
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        except MaxcaError as error:
            if self.fault:
                raise MaxcaError(self.fault) from error
            raise
        finally:
            self.ended.set()
            thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(CHECKED):
            submitted = dict(self.cluster.workers)
            queue = None if self.fault else queued()
            if queue is not None:
                ours = {job.job_id for job in submitted.values()}  # other cohorts have jobs of the same name
                self._check(submitted, {number: state for number, state in queue.items() if number in ours})
            if self.fault:  # each time: another cohort may begin in the same jobs later
                self.client.cancel([Future(key, self.client) for key in list(self.client.futures)], force=True)

    def _check(self, submitted: dict[str, Any], queue: dict[str, str]) -> None:
        connected = {str(each["name"]) for each in self.cluster.scheduler_info["workers"].values()}
        working = {name for name in submitted if any(re.fullmatch(rf"{re.escape(name)}(-\d+)?", c) for c in connected)}
        if working:
            self.lost, self.since = 0, time.monotonic()
        gone = {name: job for name, job in submitted.items() if job.job_id not in queue}
        for job in [job for name, job in gone.items() if name not in working]:
            self._note(job)
        self.client.sync(self._replace, list(gone))
        if not working and time.monotonic() - self.since > PATIENCE and queue:
            self._warn_once(f"no job of SLURM has started for {PATIENCE:.0f} s: {next(iter(queue.values()))}")

    async def _replace(self, gone: list[str]) -> None:
        """Submit jobs, under new names, in place of those that are gone; runs in the loop of the cluster."""
        for name in gone:
            self.cluster.workers.pop(name, None)
            self.cluster.worker_spec.pop(name, None)
        self.cluster.scale(jobs=self.jobs)

    def _note(self, job: Any) -> None:
        """What to say of a job that is gone and did not work."""
        self.lost += 1
        if job.refused:
            self._warn_once(f"SLURM refuses a job: {job.refused}")
        if self.lost >= ATTEMPTS * self.jobs:
            said = job.refused or self._last_line(job.job_id) or "cancelled"
            self.fault = f"jobs of SLURM end before they connect to this machine, the last for: {said}"

    def _last_line(self, number: str) -> str:
        """Of the log of a job: the last line that speaks of an error, or the last one."""
        with suppress(OSError):
            text = (self.place / f"{number}.log").read_text(encoding="utf-8", errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            faults = [line for line in lines if FAULT.search(line)]
            return one_line((faults or lines or [""])[-1], 300)
        return ""

    def _warn_once(self, line: str) -> None:
        if line not in self.warned:
            self.warned.add(line)
            self.warn(line)


def queued() -> dict[str, str] | None:
    """This user's jobs of cohorts that have not ended, by number, with state and reason; None if SLURM is silent."""
    command = ["squeue", "--noheader", f"--user={os.getuid()}", f"--name={NAME}", "--format=%A %T (%r)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def _check_accepted(job: JobOptions, cluster: SLURMCluster, place: Path) -> None:
    """Ask SLURM about such a job without submitting it."""
    script = place / "test.sh"
    script.write_text(cluster.job_script(), encoding="utf-8")
    done = subprocess.run(["sbatch", "--test-only", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OptionError(SLURM, _text(job), f"SLURM refuses such a job: {_reason(done.stderr)}")


def _reason(said: str) -> str:
    """The last line of an error of sbatch."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return one_line(re.sub(r"^(sbatch: )?(error: )?", "", lines[-1]) if lines else "no reason given", 300)


def _text(job: JobOptions) -> str:
    return ",".join(f"{name}={value}" for name, value in vars(job).items() if value is not None) or '""'


def _keys(place: Path) -> dict[str, Any]:
    """A key for this run in files that only this user reads, and Dask's settings for it."""
    security, files = Security.temporary(), {}
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        files[name] = str(place / f"{name}.pem")
        with open(os.open(files[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(getattr(security, name))
    roles = ("scheduler", "worker", "client")
    tls = "distributed.comm.tls"
    return {
        f"{tls}.ca-file": files["tls_ca_file"],
        **{f"{tls}.{role}.cert": files["tls_worker_cert"] for role in roles},
        **{f"{tls}.{role}.key": files["tls_worker_key"] for role in roles},
    }


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *above, last = name.split(".")
        inner = nested
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return nested
