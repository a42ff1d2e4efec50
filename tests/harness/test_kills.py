"""SIGKILL at random moments and before random file events; the same command ends as if nothing had been.

KILLS=N is how many there are for each command, 2 by default; KILL_COMMANDS=all, or names separated by commas, which
commands, by default `train`; KILL_TABLE=FILE writes what became of them as a Markdown table.
"""

import functools
import itertools
import os
import signal
import sys
import time
from collections import Counter

import numpy as np
import pytest
from helpers.commands import Command
from helpers.interruptions import results

from margin_jax.run_folder.check import check

KILLS = int(os.environ.get("KILLS", "2"))
PER_CYCLE = 3  # kills of one folder before it is left to end
KILLED = -9
COMMANDS = {
    "train": ("train.py", "--config.compress.keep=6", "--config.record.collapse_every=3",
              "--config.record.margins_every=2"),
    "immediate": ("compress.py", "--config.compress.keeps=(6,3)",
                  "--config.compress.controls=('frozen','random','full','scratch')"),
    "continuous": ("compress.py", "--config.compress.mode=continuous", "--config.compress.keeps=(12,4)",
                   "--config.compress.schedule=((20,10),(4,4))", "--config.compress.controls=('random','scratch')"),
    "grid": ("compress.py", "--config.compress.mode=grid", "--config.compress.keep=6", "--config.compress.seeds=(0,1)",
             "--config.compress.grid_learning_rates=(0.02,0.01)", "--config.compress.grid_batch_sizes=(7,3)"),
    "whole_run": ("compress.py", "--config.compress.mode=grid", "--config.compress.keep=6",
                  "--config.compress.grid_scope=whole_run", "--config.compress.grid_learning_rates=(0.02,0.01)",
                  "--config.compress.grid_batch_sizes=(7,3)"),
    "sweep": ("sweep.py", "--config.sweep.networks=4", "--config.sweep.chunk=2", "--config.sweep.init_stds=()",
              "--config.sweep.resamples=20"),
    "stability": ("stability.py", "--config.stability.trials=4", "--config.stability.chunk=2",
                  "--config.stability.epochs=2", "--config.stability.deletions=(1,)"),
}
CHOSEN = os.environ.get("KILL_COMMANDS", "train")


CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def watch(folder, events, kill_before):
    """Counts what this process does to the folder, a byte of the file `events` for each, and dies before one of it.

    A file event is what changes the folder: opening a file for writing, renaming, making or removing.
    """
    log, count = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 0

    def hook(event, args):
        nonlocal count
        writes = event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in CHANGES) or not str(args[0]).startswith(folder):
            return
        if count == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(log, b".")

    sys.addaudithook(hook)


def run(command, folder, kill_before=None, kill_after=300.0):
    """Exit status, -9 where killed; seconds; number of file events; what was printed."""
    events, begun = folder.with_suffix(".events"), time.monotonic()
    under_way = Command(*command, f"--workdir={folder}",
                        first=functools.partial(watch, str(folder), str(events), kill_before))
    printed = under_way.communicate(timeout=kill_after)
    return under_way.returncode, time.monotonic() - begun, events.stat().st_size if events.exists() else 0, printed


def command_of(name, data):
    script, *arguments = COMMANDS[name]
    return [script, "--config=configs/quickstart.py", "--config.data.name=npz", f"--config.data.dir={data}",
            "--config.epochs=30", "--config.stop.smallest=5", "--config.model.widths=(4,)", "--config.batch_size=7",
            "--config.optimizer.learning_rate=0.02", "--config.compress.epochs=2", "--config.compress.keep=0",
            "--config.checkpoint_seconds=0", "--config.log_every_seconds=1e9", *arguments,
            *{("train", True): [], ("train", False): ["--nofigures", "--config.stop.rule=epochs", "--config.epochs=8"]}
            .get((name, "KILLS" in os.environ), ["--nofigures"])]


def drawn(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("figures/*"))


def moment(random, events, duration):
    """When to kill, as `run` takes it."""
    if random.integers(2):
        return {"kill_before": int(random.integers(events))}
    return {"kill_after": float(random.uniform(0, duration))}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_gets_to_its_first_file(data, tmp_path, name):
    """Where it is killed: the long form kills no command that is refused."""
    status, *_, log = run(command_of(name, data), tmp_path / "run", kill_before=0)
    assert status == KILLED and not any(log) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", COMMANDS if CHOSEN == "all" else CHOSEN.split(","))
def test_a_killed_command_ends_as_if_nothing_had_been(data, tmp_path, name):
    """Killed up to PER_CYCLE times in one folder, then left to end; with KILLS, `train` draws its figures too."""
    command, random, table = command_of(name, data), np.random.default_rng(list(name.encode())), Counter()
    status, duration, events, log = run(command, tmp_path / "whole")
    assert status == 0, log
    whole = results(tmp_path / "whole")
    assert len(whole) > 1
    for cycle in itertools.count():
        if table.total() >= KILLS:
            break
        folder, done, status = tmp_path / str(cycle), [], KILLED
        while status == KILLED:
            over = (folder / "summary.json").is_file()
            left_alone = len(done) == PER_CYCLE or table.total() >= KILLS
            when = {} if left_alone else moment(random, events, duration)
            status, *_, log = run(command, folder, **when)
            assert status != KILLED or when, ("hangs", done, log)
            done.append(when)
            table.update([*when] if status == KILLED else [])
        assert status == 0 or over and status == 2, (done, log)  # 2: over, and nothing was left to draw
        assert results(folder) == whole and drawn(folder) == drawn(tmp_path / "whole"), done
        assert all(finding.good for finding in check(folder)), done
    if "KILL_TABLE" in os.environ:
        with open(os.environ["KILL_TABLE"], "a", encoding="utf-8") as file:
            counts = " | ".join(str(table[kind]) for kind in ("kill_after", "kill_before"))
            file.write(f"| {name} | {counts} | {events} | 0 |\n")
