"""Cohorts in jobs of a real SLURM of one node: ``make test-slurm``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from cohortpairs import OPTIONS, PATIENTS, hashes
from dask_processes import kill, wait

import maxca
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.workflows.cohort.cluster import Needed, connected
from maxca.workflows.cohort.jobs import JobOptions, read_job
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import PLAN, read_plan
from maxca.workflows.cohort.slurm import request_of
from maxca.workflows.cohort.task import TASK

SLURM = Path(__file__).with_name("slurm.sh")
NAMES = [f"sub-{number}_T1" for number in range(PATIENTS)]
JOBS = "partition=long,interface=lo"


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """SLURM, until the end of this process, for whatever reason."""
    if not os.environ.get("MAXCA_SLURM"):  # its jobs would compete with the other tests
        pytest.skip("needs SLURM: apt-get install slurm-wlm munge; make test-slurm")
    sbin = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=sbin)]
    assert not missing, f"{missing[0]} is not installed: apt-get install slurm-wlm munge"
    command = [str(SLURM), "bash", "-c", 'echo "$SLURM_CONF"; exec cat']  # until its standard input is closed
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin and running.stdout
        place = running.stdout.readline().strip()
        assert place, "SLURM does not start; see above"
        os.environ["SLURM_CONF"] = place
        yield
        running.stdin.close()
        running.wait(30)
    del os.environ["SLURM_CONF"]


def jobs(state: str = "") -> set[str]:
    """The numbers of the jobs that have not ended, or of those in a state."""
    command = ["squeue", "--noheader", "--format=%A %T"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0] for line in lines if state in line}


def client(pairs: Path, out: Path, jobs: str, *words: str) -> subprocess.Popen[str]:
    """``maxca cohort`` in a process of its own."""
    usual = ("--model", "none", "--effort", "fast", "--no-page", "--slurm", jobs, *words)
    command = [sys.executable, "-m", "maxca", "cohort", str(pairs), "-o", str(out), *usual]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def done(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob(f"[!.]*/{TASK}")}


def check_complete(out: Path, alone: dict[str, dict[str, str]]) -> None:
    """All pairs are those of ``register``, and nothing else is left."""
    assert read_plan(out).count() == {"done": PATIENTS, "failed": 0, "pending": 0}
    assert {name: hashes(out / name) for name in NAMES} == alone
    assert {path.name for path in out.iterdir() if path.is_dir()} == set(NAMES)


@pytest.mark.slow
def test_jobs_that_are_cancelled_or_preempted_are_submitted_again(
    slurm: None, pairs: Path, tmp_path: Path, alone: dict[str, dict[str, str]]
) -> None:
    out = tmp_path / "out put"  # a folder of the user
    process = client(pairs, out, JOBS, "--workers", "2")
    wait(lambda: done(out))
    before, first = done(out), jobs("RUNNING")
    assert len(first) == 2
    subprocess.run(["scancel", min(first)], check=True)
    wait(lambda: len(jobs("RUNNING") - first) == 1)
    urgent = ["sbatch", "--quiet", "--partition=urgent", "--mem=64000M", "--output=/dev/null", "--wrap", "sleep 1"]
    subprocess.run(urgent, check=True)  # needs the whole node
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    check_complete(out, alone)
    assert {name: done(out)[name] for name in before} == before  # what was done was not done again
    wait(lambda: not jobs())


@pytest.mark.slow
def test_jobs_end_with_a_killed_client_and_the_same_command_resumes(
    slurm: None, pairs: Path, tmp_path: Path, alone: dict[str, dict[str, str]]
) -> None:
    out = tmp_path / "out"
    process = client(pairs, out, JOBS, "--workers", "1")
    wait(lambda: done(out))
    kill(process)
    before = done(out)
    wait(lambda: not jobs())
    process = client(pairs, out, f"{JOBS},cores=2,memory=4GB,walltime=10")  # one job, and two pairs at a time
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    check_complete(out, alone)
    assert {name: done(out)[name] for name in before} == before


@pytest.mark.parametrize(
    ("slurm_options", "says"),
    [
        ("partition=nowhere", "SLURM refuses such a job: .*[Pp]artition"),
        ("memory=900GB", "SLURM refuses such a job: .*Requested node configuration is not available"),
        ("interface=none0", "'none0' is not a valid network interface"),
    ],
    ids=str,
)
def test_what_slurm_refuses_leaves_nothing(
    slurm: None, pairs: Path, tmp_path: Path, slurm_options: str, says: str
) -> None:
    with pytest.raises(MaxcaError, match=says) as caught:
        maxca.cohort(pairs, tmp_path / "out", OPTIONS, CohortOptions(slurm=slurm_options))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists() and not jobs()


def test_jobs_that_cannot_work_are_reported(
    slurm: None, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxca.workflows.cohort.slurm.CHECKED", 0.5)
    prologue = ["export PYTHONHOME=/nowhere"]  # such as of a wrong module
    with (
        dask.config.set({"jobqueue.slurm.job-script-prologue": prologue}),
        pytest.raises(MaxcaError, match=r"jobs of SLURM end before they connect.*No module named 'encodings'"),
    ):
        maxca.cohort(pairs, tmp_path / "out", OPTIONS, CohortOptions(slurm=JOBS, workers=1))
    assert read_plan(tmp_path / "out").count()["pending"] == PATIENTS
    wait(lambda: not jobs())


def test_jobs_that_cannot_work_are_reported_to_a_later_cohort(
    slurm: None, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxca.workflows.cohort.slurm.CHECKED", 0.5)
    failing = {"jobqueue.slurm.job-script-prologue": ["export PYTHONHOME=/nowhere"]}
    options = CohortOptions(slurm=JOBS, workers=1)
    with (
        dask.config.set(failing),
        pytest.raises(MaxcaError, match=r"jobs of SLURM end before they connect"),
        connected(options, Needed(1, 1.0, 1), tmp_path / "out"),
    ):
        wait(lambda: not any(time.sleep(0.5) or jobs() for _ in range(5)))  # none is submitted any more
        maxca.cohort(pairs, tmp_path / "out" / "later", OPTIONS, CohortOptions())
    wait(lambda: not jobs())


def test_jobs_have_what_the_configuration_of_dask_jobqueue_adds(
    slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []
    keep = lambda _job, cluster, _place: scripts.append(cluster.job_script())  # noqa: E731
    monkeypatch.setattr("maxca.workflows.cohort.slurm._check_accepted", keep)
    added = {
        "jobqueue.slurm.job-extra-directives": ["--comment=ours"],
        "jobqueue.slurm.job-directives-skip": ["-n 1"],
        "jobqueue.slurm.worker-extra-args": ["--lifetime", "50m"],
    }
    options = CohortOptions(slurm="partition=long,interface=lo,qos=normal", workers=1)
    with dask.config.set(added), connected(options, Needed(1, 1.0, 1), tmp_path / "out"):
        pass
    (script,) = scripts
    assert "#SBATCH --comment=ours" in script and "#SBATCH --qos=normal" in script and "#SBATCH --no-requeue" in script
    assert "--lifetime 50m --no-dashboard" in script and "#SBATCH -n 1" not in script and "#SBATCH -t" not in script
    wait(lambda: not jobs())


def test_without_slurm_an_error_says_so(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["cohort", str(pairs), "-o", str(tmp_path / "out"), "--slurm", "partition=short"]
    assert main(words) == 1
    said = capsys.readouterr().err.strip()
    assert said == (
        "maxca: error: --slurm partition=short: no sbatch on this machine; run maxca on a login node of SLURM"
    )
    assert not (tmp_path / "out" / PLAN).exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("partiton=short", "no key partiton; choose from partition, account"),
        ("short", "no key short"),
        ("partition=short,partition=long", "partition is given twice"),
        ("partition=", "partition= is not valid"),
        ("partition=a --uid=0", "is not valid; give a name without spaces"),
        ("account=x\n#SBATCH --uid=0", "is not valid"),
        ("interface=lo;rm", "network interface"),
        ("walltime=two hours", "a time limit as 02:00:00"),
        ("memory=8", "a number with a unit"),
        ("cores=0", "at least 1"),
        ("cores=two", "at least 1"),
    ],
)
def test_invalid_requests_are_refused(text: str, says: str) -> None:
    with pytest.raises(MaxcaError, match=says) as caught:
        CohortOptions(slurm=text)
    assert str(caught.value).startswith("slurm=")


def test_requests_are_those_of_sbatch() -> None:
    job = read_job("partition=short, walltime=1-12:00:00,memory=1.5gb,cores=4,gres=gpu:a100:1,account=lab")
    assert job == JobOptions("short", "lab", None, "1-12:00:00", "1.5gb", 4, gres="gpu:a100:1")
    assert job.memory_bytes == 1.5 * 2**30
    assert read_job("") == JobOptions() and CohortOptions().job is None


def test_jobs_request_what_their_pairs_need() -> None:
    plain = request_of(JobOptions(), None, 1000, 1, 2.0)
    assert (plain.jobs, plain.processes, plain.cores) == (16, 1, 1) and 2.0e9 < plain.memory < 2.5e9
    assert request_of(JobOptions(), None, 3, 2, 2.0)[:3] == (3, 1, 2)
    several = request_of(JobOptions(cores=8), 50, 100, 2, 2.0)
    assert several[:3] == (25, 4, 8) and several.memory > 8e9 and not several.reason
    little = request_of(JobOptions(cores=8, memory="5G"), 2, 100, 1, 2.0)
    assert little[:3] == (2, 2, 8) and "registers 2 at a time" in little.reason
    assert request_of(JobOptions(memory="1G"), 2, 100, 1, 2.0).processes == 1


@pytest.mark.parametrize("other", [{"scheduler": "tcp://127.0.0.1:8786"}, {"memory_gb": 8.0}])
def test_slurm_excludes(other: dict) -> None:
    with pytest.raises(MaxcaError, match=r"remove one of the two|memory of a job"):
        CohortOptions(slurm="partition=short", **other)
