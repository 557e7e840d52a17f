"""Many tasks through Dask with a bounded number of them in the scheduler, so that its memory and ours stay flat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from maxca.errors import MaxcaError, one_line

T = TypeVar("T")
FEWEST = 16  # tasks in the scheduler
PER_THREAD = 3  # tasks in the scheduler for each thread of its workers
COUNTED = 10.0  # seconds between counts of these threads: workers may be added at any time
AGAIN = "run the same command again to resume"


class Ended(NamedTuple):
    """A task and its result; or, if its workers ended each time it ran, the reason."""

    task: Any
    result: Any
    killed: str = ""


def stream(client: Client, function: Callable[[T], Any], tasks: Iterable[T]) -> Iterator[Ended]:
    """Run a function on each task, in parallel.

    Args:
        client: of a scheduler with workers, one of which may also come later.
        function: importable on the workers; it runs again if its worker ends meanwhile.
        tasks: small; their results are small too.

    Yields:
        The results as they come.

    Raises:
        MaxcaError: if the scheduler is lost, or a worker cannot run the function.
    """
    waiting, running = iter(tasks), dict[Future, T]()
    completed = as_completed([], with_results=True, raise_errors=False)
    counted, window = -COUNTED, FEWEST
    try:
        while True:
            if time.monotonic() - counted > COUNTED:
                counted, window = time.monotonic(), max(FEWEST, PER_THREAD * _threads(client))
            for task in islice(waiting, max(0, window - len(running))):
                future = client.submit(function, task, pure=False)
                running[future] = task
                completed.add(future)
            if not running:
                return
            future, result = next(completed)
            task = running.pop(future)
            yield _ended(future, result, task)
            future.release()
    finally:
        completed.clear()
        for future in running:
            future.release()


def _threads(client: Client) -> int:
    try:
        return sum(client.nthreads().values())
    except (OSError, TimeoutError) as error:
        raise MaxcaError(f"the Dask scheduler was lost; start it again, and {AGAIN}") from error


def _ended(future: Future, result: Any, task: Any) -> Ended:
    if future.status == "finished":
        return Ended(task, result)
    if future.status in ("cancelled", "lost"):
        raise MaxcaError(f"the Dask scheduler was lost; start it again, and {AGAIN}")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Ended(task, None, "its worker ended each time, perhaps for lack of memory or time; use fewer workers")
    raise MaxcaError(
        f"a Dask worker cannot run a registration ({type(error).__name__}: {one_line(str(error), 200)}); install the "
        f"same maxca there, and {AGAIN}"
    )
