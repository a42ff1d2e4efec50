"""Commands in processes forked from this one, which has the library imported and JAX not started: a start costs little.

Reads a line of JSON for each command from its standard input, {"argv": [...], "folder": path, "kill_before": number
or null, "kill_after": seconds or null, "events": path, "log": path}, and answers with its exit status. A file event is
what changes the work folder: opening a file for writing, renaming, making or removing. Each writes one byte to the
file `events`. SIGKILL comes right before event number `kill_before`, counted from 0, or after `kill_after`.
"""

import json
import os
import runpy
import signal
import sys
import time
import traceback

import matplotlib.backends.backend_agg  # noqa: F401
import sklearn.datasets  # noqa: F401

import margin_jax.experiments.compress
import margin_jax.experiments.stability
import margin_jax.experiments.sweep
import margin_jax.experiments.train  # noqa: F401
import plots.compress.draw
import plots.runs.draw
import plots.stability.draw
import plots.sweeps.draw  # noqa: F401

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def watch(folder: str, events: int, kill_before: int | None) -> None:
    """Counts what this process does to the folder, and dies before one of it."""
    count = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        writes = event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in CHANGES) or not str(args[0]).startswith(folder):
            return
        if count == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(events, b".")

    sys.addaudithook(hook)


def run(request: dict) -> None:
    """Becomes the command."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    watch(request["folder"], os.open(request["events"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), request["kill_before"])
    sys.argv = request["argv"]
    sys.path.insert(0, os.path.dirname(request["argv"][0]))
    status = 0
    try:
        runpy.run_path(request["argv"][0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def wait(pid: int, kill_after: float | None) -> int:
    """The exit status of a child, which is killed where it takes longer; -9 where it was."""
    until = None if kill_after is None else time.monotonic() + kill_after
    while until is not None and time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    if until is not None:
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Serves until the standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            run(request)
        print(wait(pid, request["kill_after"]), flush=True)


if __name__ == "__main__":
    main()
