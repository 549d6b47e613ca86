"""BackgroundThread: one thread that runs jobs in order while the model computes."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore


class BackgroundThread:
    """Runs jobs in order in one thread. After a job raises, later jobs are skipped.

    Args:
        most: Largest number of unfinished jobs; `submit` blocks until there are fewer.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._free = BoundedSemaphore(most)
        self._submitted: deque[Future[None]] = deque()
        self._failed = False

    def submit(self, job: Callable[[], None]) -> None:
        """Queue a job.

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
            BaseException: A job raised it.
        """
        while self._submitted:
            self._submitted.popleft().result()

    def close(self) -> None:
        """Stop the thread; jobs that have not started are cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)
