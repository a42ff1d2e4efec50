"""What the tests of compressions and interruptions share: a config, its results, and a process that dies."""

import re

import numpy as np
import pytest

from helpers.runs import run_config
from margin_jax.run_folder import tables as columns

SEPARATED = {"epochs": 60, "stop__rule": "separation", "optimizer__learning_rate": 0.02, "stop__smallest": 5,
             "record__every": 4, "checkpoint_seconds": 1e9}


def compression(data, **changes):
    return run_config(data, **(SEPARATED | {"compress__keep": 6, "compress__epochs": 3} | changes))


def cells_of(path):
    return columns.rows_of(columns.read_table(path, "cells.csv"))


def last_checkpoint(path):
    """The newest checkpoint of a run folder as nested dictionaries, by the names in its file."""
    folders = [folder for folder in (path / "checkpoints" / "latest").iterdir() if folder.name.isdigit()]
    tree = {}
    with np.load(max(folders, key=lambda folder: int(folder.name)) / "default" / "arrays.npz") as file:
        for name, leaf in file.items():
            *above, last = [word or number for word, number in re.findall(r"([A-Za-z]\w*)|\[(\d+)\]", name)]
            branch = tree
            for key in above:
                branch = branch.setdefault(key, {})
            branch[last] = leaf
    return tree


def params_of(path):
    """The last parameters of a run folder."""
    return last_checkpoint(path)["state"]["params"]


def results(folder):
    """Everything that a work folder says, by file, without wall times, the revision and bytes of containers."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npz" and "checkpoints" not in name:
            with np.load(path) as arrays:
                contents[name] = {key: arrays[key].tobytes() for key in arrays.files}
        elif path.suffix == ".csv":
            lines = path.read_text().splitlines()
            columns = lines[0].split(",")
            contents[name] = [[cell for column, cell in zip(columns, line.split(","), strict=True)
                               if column != "seconds"] for line in lines]
        elif path.suffix == ".md" or path.name == "kept_ids.json":
            contents[name] = path.read_text()
    return contents


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
