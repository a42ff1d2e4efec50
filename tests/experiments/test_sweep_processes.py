"""A sweep shared by two processes that JAX's distributed runtime joins, one of them killed and started again."""

import signal
import socket
import time

import numpy as np
import pytest
from helpers.commands import Command
from helpers.runs import write_npz

from configs import sweep100
from margin_jax.backend import Share, share_of_processes
from margin_jax.errors import InputError
from margin_jax.experiments.sweep import sweep
from margin_jax.run_folder import read as records


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(arguments, workdir, **flags):
    """One process of a sweep on two virtual devices."""
    given = [f"--{name}={value}" for name, value in flags.items()]
    return Command("sweep.py", *arguments, *given, f"--workdir={workdir}")


def wait_for(there, process):
    until = time.monotonic() + 300
    while not there():
        assert process.returncode is None and time.monotonic() < until, process.communicate(timeout=1)
        time.sleep(0.02)


def test_a_killed_process_goes_on_and_the_result_is_that_of_one(tmp_path):
    write_npz(tmp_path / "own.npz")
    arguments = ["--config=configs/sweep100.py", "--config.data.name=npz", f"--config.data.dir={tmp_path / 'own.npz'}",
                 "--config.epochs=40", "--config.stop.rule=epochs", "--config.stop.smallest=5",
                 "--config.model.widths=(4,)", "--config.batch_size=7", "--config.sweep.networks=4",
                 "--config.sweep.init_stds=()", "--config.sweep.chunk=2", "--config.sweep.resamples=20",
                 "--config.checkpoint_seconds=0", "--config.devices=2", "--nofigures"]
    two = tmp_path / "two"
    joined = {"coordinator": f"127.0.0.1:{free_port()}", "process_count": 2}
    first = start(arguments, two, **joined, process_id=0)
    second = start(arguments, two, **joined, process_id=1)
    saved = two / "chunks" / "001" / "checkpoints" / "latest"
    wait_for(lambda: saved.is_dir() and any(p.name.isdigit() for p in saved.iterdir()), second)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    assert not (two / "chunks" / "001" / "summary.json").exists()
    wait_for((two / "chunks" / "000" / "summary.json").exists, first)
    assert first.returncode is None and not (two / "summary.json").exists()  # it waits for the other
    again = start(arguments, two, **joined, process_id=1)
    config = sweep100.get_config()
    config.update(records.read_json(two, "config.json")["config"])
    sweep(config, tmp_path / "one")  # by this process alone, in the meantime
    for process in (again, first):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for name in ("networks.csv", "moments.csv", "audit.csv"):
        assert (two / name).read_text() == (tmp_path / "one" / name).read_text()
    for number in range(4):
        one, other = (records.read_margins(path / "networks" / f"{number:03d}").margins
                      for path in (two, tmp_path / "one"))
        np.testing.assert_array_equal(one, other)


def test_processes_that_need_not_know_one_another_are_counted():
    assert share_of_processes("", 0, -1) == Share(0, 1)
    assert share_of_processes("", 3, 2) == Share(2, 3)
    for count, index in ((2, -1), (2, 2)):
        with pytest.raises(InputError, match="process_id in 0..P-1"):
            share_of_processes("", count, index)
