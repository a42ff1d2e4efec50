"""Stopping on request: the first SIGTERM or Ctrl-C lets a job save what it has, a second one ends the process at once.

The launch scripts call `install` before their other imports; without it nothing here has an effect, so that a notebook
keeps its own Ctrl-C. A loop that can save asks `requested` once an epoch, inside `deferred`. Everywhere else, as during
imports and while figures are drawn, a signal ends the process at once: there is nothing to save.

Signals are read by a thread, since Python runs its own handlers only between two lines of the main thread: a compiled
epoch is one line. Libraries that run an event loop (Orbax) take the signals away from it while they do, and run the
handlers instead; both ways are counted, and the larger count is the number of signals.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

GRACE = 10.0  # seconds that an epoch may still take
# `timeout` and batch systems signal a process, and then its group with it: within so many seconds that is one request.
_SAME = 0.1
GO_ON = "the same command goes on"


class Interrupted(Exception):
    """A job has saved its state and stopped, because a signal asked for it.

    Attributes:
      status: the exit status of the process, 128 + the number of the signal.
    """

    def __init__(self, number: int) -> None:
        """`number` is that of the signal."""
        self.status = 128 + number
        super().__init__(f"stopped by {_name(number)} after saving; {GO_ON}")


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class _Watch:
    """The signals of this process: what came, and what it does."""

    def __init__(self) -> None:
        self.grace = GRACE
        self.number = 0  # of the first signal
        self._lock = threading.RLock()  # a handler may run while its own thread counts
        self._seen = {"thread": 0, "handler": 0}
        self._first_at = 0.0
        self._loops = 0
        self._handled: list[int] = []

    def install(self) -> None:
        """Takes the signals over, again where a library has taken them; ignored ones, as under nohup, stay ignored."""
        first = not self._handled
        for number in (signal.SIGTERM, signal.SIGINT):
            if number in self._handled or (first and signal.getsignal(number) != signal.SIG_IGN):
                signal.signal(number, lambda number, _: self._received("handler", number))
                self._handled = sorted({*self._handled, number})
        if first and self._handled:
            readable, writable = os.pipe()
            os.set_blocking(writable, False)
            signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
            threading.Thread(target=self._read, args=(readable,), name="signals", daemon=True).start()

    def installed(self) -> bool:
        return bool(self._handled)

    def _read(self, readable: int) -> None:
        while True:
            for number in os.read(readable, 1):
                if number in self._handled:
                    self._received("thread", number)

    def _received(self, way: str, number: int) -> None:
        with self._lock:
            before = max(self._seen.values())
            self._seen[way] += 1
            if max(self._seen.values()) == before:  # the other way of the same signal
                return
            if before and time.monotonic() - self._first_at < _SAME:
                return
            if before or not self._loops:
                leave(128 + number, f"{'ended' if before else 'stopped'} by {_name(number)}; {GO_ON}")
            self.number, self._first_at = number, time.monotonic()
        say(f"{_name(number)}: saving after the epoch under way, within {self.grace:g} s; once more ends at once")
        threading.Thread(target=self._limit, args=(number,), name="grace", daemon=True).start()

    def _limit(self, number: int) -> None:
        time.sleep(self.grace)
        leave(128 + number, f"stopped by {_name(number)}: the epoch under way took longer than {self.grace:g} s and is "
                            f"lost (--grace gives it more); {GO_ON} from the last checkpoint")

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        with self._lock:
            self._loops += 1
        try:
            yield
        finally:
            with self._lock:
                self._loops -= 1
        if self.number:
            raise Interrupted(self.number)


_watch = _Watch()


def install() -> None:
    """Takes SIGTERM and Ctrl-C over for this process, which may not be done in a thread; may be called again."""
    _watch.install()


def reinstall() -> None:
    """Takes the signals back from a library that has put its own handlers in place; nothing without `install`."""
    if _watch.installed():
        _watch.install()


def set_grace(seconds: float) -> None:
    """How long an epoch may still take after the first signal."""
    _watch.grace = seconds


def requested() -> bool:
    """Whether the job should save and stop; asked once an epoch, inside `deferred`."""
    return _watch.number != 0


def deferred() -> contextlib.AbstractContextManager[None]:
    """A context in which a signal is waited with: what runs inside asks `requested`, saves and ends the context.

    Its end raises `Interrupted` if a signal came meanwhile.
    """
    return _watch.deferred()


def say(line: str) -> None:
    """Writes a line to stderr past Python's buffers, which another thread may hold; a closed terminal is no error."""
    start = "\n" if os.isatty(2) else ""  # below a progress bar
    with contextlib.suppress(OSError):
        os.write(2, f"{start}{line}\n".encode(errors="backslashreplace"))


def leave(status: int, line: str = "") -> Any:
    """Ends the process at once, whatever its threads wait for, such as other processes or a library's shutdown."""
    if line:
        say(line)
    with contextlib.suppress(Exception):
        if status < 128:
            sys.stdout.flush()
    os._exit(status)
