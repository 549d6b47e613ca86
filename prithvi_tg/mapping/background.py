"""Work beside the model: one thread that runs jobs in order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore


class BackgroundThread:
    """Runs jobs one after the other in a thread of its own. After a job that raised, no other one is run.

    Args:
        most: Jobs that may wait; `submit` blocks while there are as many.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._free = BoundedSemaphore(most)
        self._submitted: deque[Future[None]] = deque()
        self._failed = False

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job after those before it.

        Raises:
            BaseException: An earlier job raised it.
        """
        while self._submitted and self._submitted[0].done():
            self._submitted.popleft().result()
        self._free.acquire()
        self._submitted.append(self._pool.submit(self._run, job))

    def _run(self, job: Callable[[], None]) -> None:
        try:
            if self._failed:
                return
            self._failed = True
            job()
            self._failed = False
        finally:
            self._free.release()

    def wait(self) -> None:
        """Wait for all jobs.

        Raises:
            BaseException: One of them raised it.
        """
        while self._submitted:
            self._submitted.popleft().result()

    def close(self) -> None:
        """End the thread, without the jobs that it has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
