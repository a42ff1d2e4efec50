"""The commands of launch/, in processes forked from one that has imported the library and not started JAX.

A process of its own, as a user's shell makes it, spends two seconds on imports before it reads its flags. The tests
that are about this start use `subprocess`; all others use `Command`.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRELOADED = ("matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "sklearn.datasets",
             "margin_jax.experiments.compress", "margin_jax.experiments.stability", "margin_jax.experiments.sweep",
             "margin_jax.experiments.train", "plots.compress.draw", "plots.runs.draw", "plots.stability.draw",
             "plots.sweeps.draw")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(list(PRELOADED))


class Command:
    """A command under way, with the part of `subprocess.Popen` that tests need."""

    def __init__(self, script: str, *arguments: Any, first: Callable[[], None] | None = None) -> None:
        """Starts launch/`script`.

        Args:
            script: its file name.
            *arguments: of its command line.
            first: what the process does before; must pickle.
        """
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8")
        reader, writer = os.pipe()
        argv = [str(ROOT / "launch" / script), *map(str, arguments)]
        self._process = FORKS.Process(target=_become, args=(argv, _Streams(self._output.fileno(), writer), first))
        self._process.start()
        os.close(writer)
        self.stderr = os.fdopen(reader, encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status once it has ended, less than 0 for a signal."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Waits for the end; what it wrote to standard output, and what is unread of its errors.

        Args:
            timeout: seconds after which it is killed.
        """
        late = threading.Timer(timeout, self._process.kill)
        late.start()
        try:
            errors = self.stderr.read()
            self._process.join()
        finally:
            late.cancel()
            self.stderr.close()
        self._output.seek(0)
        with self._output:
            return self._output.read(), errors



class _Streams:
    """Standard output and standard error of a command, as file descriptors that go to its process."""

    def __init__(self, output: int, errors: int) -> None:
        self.numbers = output, errors

    def __getstate__(self) -> list[Any]:
        return [DupFd(number) for number in self.numbers]

    def __setstate__(self, state: list[Any]) -> None:
        self.numbers = tuple(end.detach() for end in state)


def launch(script: str, *arguments: Any, first: Callable[[], None] | None = None) -> subprocess.CompletedProcess:
    """Runs a command to its end."""
    command = Command(script, *arguments, first=first)
    output, errors = command.communicate()
    return subprocess.CompletedProcess([script, *arguments], command.returncode, output, errors)


def _become(argv: list[str], streams: _Streams, first: Callable[[], None] | None) -> None:
    """Runs a script in this process as `python argv...` would, and ends it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    for number, target in zip(streams.numbers, (1, 2), strict=True):
        os.dup2(number, target)
        os.close(number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace",
                                   closefd=False) for number in (1, 2))
    os.chdir(ROOT)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if first is not None:
        first()
    sys.argv = argv
    sys.path.insert(0, os.path.dirname(argv[0]))
    status = 0
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
