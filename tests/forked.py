"""The command in a process of its own, which is forked from one that has imported everything it needs."""

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.forkserver import _forkserver
from pathlib import Path

from prithvi_tg.__main__ import console

#: Starts processes from a server that imports the command once. The server has no threads of OpenMP and no GPU.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "prithvi_tg.cli.lightning", "prithvi_tg.commands.embed"])


class ForkedCommand:
    """``prithvi-tg`` as `subprocess.Popen` starts it, but without the seconds of its imports.

    The process has its own session, and no terminal. Signals, exit code, output and errors are those of a process that
    a shell starts.

    Args:
        words: Name of the command, and its arguments.
        folder: Folder for its output; must not exist.
        path: Folders to import from in addition; processes that the command starts inherit them.
        main: Function of a module that returns the exit code; ``words`` are its ``sys.argv[1:]``.
    """

    def __init__(
        self, words: list[str], folder: Path, path: tuple[Path, ...] = (), main: Callable[[], int] = console
    ) -> None:
        folder.mkdir()
        self.out, self.err = folder / "out", folder / "err"
        python_path = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(python_path)}
        # Lightning divides the cores among its processes only without it; several threads hang in a forked process.
        environment.pop("OMP_NUM_THREADS", None)
        arguments = (main, words, Path.cwd(), environment, self.out, self.err)
        self.process = CONTEXT.Process(target=_run, args=arguments)
        self.process.start()

    def poll(self) -> int | None:
        """Exit code, minus the number of a signal that killed the process; ``None`` while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill the process and those that it has started, if it runs, and wait for its end."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has no session yet, or has just ended
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.join()

    def communicate(self, timeout: float = 300) -> tuple[int, str, str]:
        """Wait for the end of the process: exit code, standard output, standard error."""
        self.process.join(timeout)
        code = self.poll()
        assert code is not None, f"still runs after {timeout} s; {self.err.read_text()}"
        return code, self.out.read_text(), self.err.read_text()


def end_server() -> None:
    """End the server, and wait for its end; multiprocessing has no public function for this."""
    _forkserver._stop()


def _run(
    main: Callable[[], int], words: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path
) -> None:
    os.setsid()
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    # A shell that starts the tests in the background makes them ignore SIGINT, which the server inherits.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [one for one in environment["PYTHONPATH"].split(os.pathsep) if one]
    sys.argv = ["prithvi-tg", *words]
    # Processes of strategy ddp repeat the command: python -m prithvi_tg.
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("prithvi_tg.__main__")
    sys.exit(main())
