"""What the tests of compressions share: a config, its tables, and a process that dies."""

import pytest

from helpers.runs import run_config
from margin_jax.run_folder import tables as columns
from margin_jax.run_folder.checkpoint import Checkpoints

SEPARATED = {"epochs": 60, "stop__rule": "separation", "optimizer__learning_rate": 0.02, "stop__smallest": 5,
             "record__every": 4, "checkpoint_seconds": 1e9}


def compression(data, **changes):
    return run_config(data, **(SEPARATED | {"compress__keep": 6, "compress__epochs": 3} | changes))


def cells_of(path):
    return columns.rows_of(columns.read_table(path, "cells.csv"))


def params_of(path):
    """The last parameters of a run folder."""
    with Checkpoints(path / "checkpoints") as checkpoints:
        manager = checkpoints._managers["latest"]
        return dict(manager.restore(manager.latest_step()))["state"]["params"]


class Killed(Exception):
    """Stands for a process that dies."""


def dying(owner, name, at, monkeypatch):
    """Lets the `at`-th call of a method be the last thing that a process does."""
    original, calls = getattr(owner, name), []

    def method(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == at:
            raise Killed(f"{owner.__name__}.{name}, call {at}")
        return result

    monkeypatch.setattr(owner, name, method)


def dying_in_turn(deaths, monkeypatch, job):
    """Starts `job` once for each of `deaths`, the arguments of `dying`, of which it dies."""
    for death in deaths:
        with monkeypatch.context() as patch:
            dying(*death, patch)
            with pytest.raises(Killed, match=f"{death[0].__name__}.{death[1]}, call {death[2]}$"):
                job()


def same_tables(first, second):
    for name in ("cells.csv", "curves.csv", "removals.csv", "kept_ids.json"):
        texts = [(path / name).read_text() if (path / name).exists() else "" for path in (first, second)]
        assert texts[0] == texts[1], name
