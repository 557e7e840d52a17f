"""Whatever ends at whatever moment: no pair is lost, none is half-written, none is done again that was done."""

from __future__ import annotations

import random
import resource
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import forks
import psutil
import pytest
from cohortpairs import PATIENTS, hashes
from dask_processes import Processes, kill, wait
from distributed import Security

from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.workflows.cohort import cluster
from maxca.workflows.cohort.options import CohortOptions
from maxca.workflows.cohort.plan import PLAN, read_plan
from maxca.workflows.cohort.task import TASK

pytestmark = pytest.mark.slow
NAMES = [f"sub-{number}_T1" for number in range(PATIENTS)]
Words = tuple[str, ...]


class Client:
    """``maxca cohort`` in a process of its own.

    Args:
        folder: of what it prints.
        words: of the command.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.place = Path(tempfile.mkdtemp(dir=folder))
        self.process = forks.started(command, ["cohort", *words], str(self.place))

    def code(self, seconds: float = 60) -> int | None:
        """Its exit code, once it has ended."""
        self.process.join(seconds)
        return self.process.exitcode

    @property
    def error(self) -> str:
        """The last line that it printed on stderr."""
        return ((self.place / "err").read_text().splitlines() or [""])[-1]


def command(words: list[str], place: str) -> None:
    """Become ``maxca``."""
    forks.redirect(place)
    sys.exit(main(words))


@pytest.fixture
def words(pairs: Path, tmp_path: Path) -> Words:
    """The command of a client, without its scheduler."""
    return (str(pairs), "-o", str(tmp_path / "out"), "--model", "none", "--effort", "fast", "--no-page")


@pytest.fixture
def out(tmp_path: Path, alone: dict[str, dict[str, str]]) -> Iterator[Path]:
    """The output folder, whose pairs are those of ``register`` in the end."""
    folder = tmp_path / "out"
    yield folder
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(NAMES)  # and no unfinished ones
    assert {name: hashes(folder / name) for name in NAMES} == alone
    assert read_plan(folder).count() == {"done": PATIENTS, "failed": 0, "pending": 0}
    assert len((folder / "measures.tsv").read_text().splitlines()) == 1 + PATIENTS


def some_moment(out: Path, seed: int) -> dict[str, int]:
    """Wait until one or two pairs are done and a random time longer; those that are done then, and since when."""
    choice = random.Random(seed)
    enough = choice.randint(1, 2)
    wait(lambda: len(done(out)) >= enough)
    time.sleep(choice.uniform(0, 0.4))
    return done(out)


def done(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob(f"[!.]*/{TASK}")}


def check_kept(out: Path, before: dict[str, int]) -> None:
    """What was done was not done again."""
    after = done(out)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("seed", [1])
def test_a_worker_is_killed(processes: Processes, words: Words, tmp_path: Path, out: Path, seed: int) -> None:
    address, _ = processes.scheduler()
    worker = processes.worker(address, "--no-nanny")
    client = Client(tmp_path, *words, "--scheduler", address)
    before = some_moment(out, seed)
    kill(worker)
    processes.worker(address, "--no-nanny")
    assert client.code() == 0, client.error
    check_kept(out, before)


@pytest.mark.parametrize("seed", [2])
def test_the_client_is_killed(processes: Processes, words: Words, tmp_path: Path, out: Path, seed: int) -> None:
    address, _ = processes.scheduler()
    processes.worker(address)
    client = Client(tmp_path, *words, "--scheduler", address)
    before = some_moment(out, seed)
    client.process.kill()
    client.code()
    assert read_plan(out).count()["failed"] == 0
    client = Client(tmp_path, *words, "--scheduler", address)
    assert client.code() == 0, client.error
    check_kept(out, before)


@pytest.mark.parametrize("seed", [3])
def test_the_scheduler_is_killed(processes: Processes, words: Words, tmp_path: Path, out: Path, seed: int) -> None:
    address, scheduler = processes.scheduler()
    worker = processes.worker(address, "--no-nanny")
    client = Client(tmp_path, *words, "--scheduler", address)
    before = some_moment(out, seed)
    kill(scheduler)
    assert client.code() == 1
    last = client.error
    assert last.startswith("maxca: error: the Dask scheduler was lost") and "run the same command again" in last
    kill(worker)
    address, _ = processes.scheduler()
    processes.worker(address)
    assert Client(tmp_path, *words, "--scheduler", address).code() == 0
    check_kept(out, before)


def test_local_workers_end_with_a_killed_client(processes: Processes, words: Words, tmp_path: Path, out: Path) -> None:
    client = Client(tmp_path, *words, "--workers", "1")
    wait(lambda: (out / PLAN).exists())
    children = psutil.Process(client.process.pid).children(recursive=True)
    assert children
    client.process.kill()
    client.code()
    wait(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 20)
    client = Client(tmp_path, *words, "--workers", "1")
    assert client.code() == 0, client.error


def test_local_workers_are_for_this_user_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECTING", 2)
    with cluster.connected(CohortOptions(workers=1), cluster.Needed(1, 0.0, 1), Path()) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            listening = [each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
            assert set(listening) <= {"127.0.0.1"}
        for stranger, says in ((address, "needs certificates"), (address.replace("tls", "tcp"), "no Dask scheduler")):
            with (
                pytest.raises(MaxcaError, match=says),
                cluster.connected(CohortOptions(scheduler=stranger), cluster.Needed(1, 0.0, 1), Path()),
            ):
                pass
        context = Security.temporary().get_connection_args("client")["ssl_context"]  # somebody else's key
        context.verify_mode = ssl.CERT_NONE  # who would not mind ours
        host, port = address.removeprefix("tls://").split(":")
        with (
            pytest.raises((ssl.SSLError, ConnectionResetError)),
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain) as secured,
        ):
            secured.recv(1)


def test_the_disc_is_full(processes: Processes, words: Words, tmp_path: Path, out: Path) -> None:
    address, _ = processes.scheduler()
    worker = processes.worker(address, "--no-nanny", limits={resource.RLIMIT_FSIZE: 20_000})
    client = Client(tmp_path, *words, "--scheduler", address)
    assert client.code() == 1
    last = client.error
    assert last.startswith("maxca: error: cannot write") and "run the same command again" in last
    assert done(out) == {} and read_plan(out).count()["pending"] == PATIENTS
    kill(worker)
    processes.worker(address)
    assert Client(tmp_path, *words, "--scheduler", address).code() == 0
