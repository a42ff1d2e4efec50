"""Damage to random files of work folders: results equal the undamaged ones, or a refusal names the file.

DAMAGES=N sets how many there are, 30 by default; DAMAGE_TABLE=FILE writes what became of them as a Markdown table.
"""

import collections
import functools
import os
import pathlib
import shutil

import numpy as np
import pytest
from helpers.interruptions import Killed, dying
from helpers.runs import run_config, write_npz

from margin_jax.errors import InputError
from margin_jax.experiments import many_networks, train
from margin_jax.experiments.job import describe, load_dataset
from margin_jax.experiments.many_networks import Jobs
from margin_jax.experiments.sweep import sweep
from margin_jax.experiments.train import run_in
from margin_jax.run_folder import read as records
from margin_jax.run_folder.check import check

DAMAGES = int(os.environ.get("DAMAGES", "30"))
SHARES = {"over": 0.4, "interrupted": 0.5, "sweep": 0.1}
WAYS = ("bit flipped", "cut", "emptied", "deleted", "bytes overwritten")


def numbers_of(path):
    """What a reader gets of a run folder, without wall times."""
    run = records.read_run(path)
    table = {name: column for name, column in run.metrics.items() if name != "seconds"}
    summary = records.read_json(path, "summary.json")
    for key in ("final", "at_separation", "at_removal"):
        if summary[key]:
            del summary[key]["seconds"]
    return [run.config, run.class_names, table, run.margins._asdict(), run.mask, run.separation, run.removals,
            run.diverged, summary, records.read_collapse(path)]


def numbers_of_sweep(path):
    tables = {name: (path / name).read_bytes() for name in ("networks.csv", "moments.csv", "audit.csv", "overlap.npz")}
    return [tables, *({"margins": np.asarray(records.read_margins(member).margins)}
                      for member in sorted((path / "networks").iterdir()))]


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    return first == second or (first != first and second != second)


@pytest.fixture(name="folders", scope="module")
def _folders(tmp_path_factory):
    """By name: a folder to damage, how its job goes on, and the numbers that must come out."""
    home, patch = tmp_path_factory.mktemp("damage"), pytest.MonkeyPatch()
    write_npz(home / "own.npz")
    config = run_config(home / "own.npz", epochs=6, compress__keep=5, compress__epochs=3, checkpoint_seconds=1e9,
                        record__collapse_every=2)
    dataset = load_dataset(config)
    jobs = Jobs(dataset)

    def run(path):
        job = jobs.get(config)
        return run_in(path, config, dataset, job, describe(config, dataset, job))

    run(home / "over")
    with saving_often(patch):
        dying(train.TrainRun, "advance", 5, patch)
        with pytest.raises(Killed):
            run(home / "interrupted")
    many = run_config(home / "own.npz", sweep__networks=2, sweep__init_stds=(), sweep__resamples=20, epochs=4,
                      checkpoint_seconds=1e9)
    sweep(many, home / "sweep_over")
    with saving_often(patch):
        dying(many_networks.ManyRun, "_after_epoch", 3, patch)
        with pytest.raises(Killed):
            sweep(many, home / "sweep")
    whole = numbers_of(home / "over")
    return {"over": (home / "over", lambda path: None, numbers_of, whole),
            "interrupted": (home / "interrupted", run, numbers_of, whole),
            "sweep": (home / "sweep", functools.partial(sweep, many), numbers_of_sweep,
                      numbers_of_sweep(home / "sweep_over"))}


class saving_often:
    """Saves after every second epoch, and undoes what else is patched."""

    def __init__(self, patch):
        self._patch = patch

    def __enter__(self):
        calls = []

        def due(self, every):
            calls.append(1)
            return len(calls) % 2 == 0

        self._patch.setattr(train.Checkpoints, "due", due)

    def __exit__(self, *exception):
        self._patch.undo()


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != ".lock")


def damage(file, way, random):
    """Damages a file; whether it is another one now."""
    data = file.read_bytes()
    if way == "deleted":
        file.unlink()
        return True
    if way == "emptied":
        new = b""
    elif way == "cut":
        new = data[:random.integers(len(data) or 1)]
    else:
        changed = bytearray(data)
        if changed and way == "bit flipped":
            changed[random.integers(len(data))] ^= 1 << random.integers(8)
        elif changed:
            place = random.integers(len(data))
            changed[place:place + 8] = random.bytes(len(changed[place:place + 8]))
        new = bytes(changed)
    file.unlink()  # the copy may be a link
    file.write_bytes(new)
    return new != data


def outcome(folder, damaged, go_on, read, whole):
    """What became of a damaged folder: "equal", or "refused" by a message that names what is damaged."""
    try:
        go_on(folder)
        numbers = read(folder)
    except InputError as error:
        assert "\n" not in str(error) and any(part in str(error) for part in damaged), (damaged, str(error))
        return "refused by name"
    assert same(numbers, whole), f"silently different: {damaged}"
    return "equal"


def kind_of(file):
    """The row of the table that a file belongs to."""
    parts = file.parts
    return f"checkpoint: {file.name}" if "checkpoints" in parts else file.name


def test_damage_is_mended_or_named(folders, tmp_path, monkeypatch):
    random, table = np.random.default_rng(20), collections.Counter()
    for number in range(DAMAGES):
        name = random.choice(list(SHARES), p=list(SHARES.values()))
        source, go_on, read, whole = folders[name]
        # Every kind of file is as likely as another, however many of them there are.
        kinds = collections.defaultdict(list)
        for file in files_of(source):
            kinds[kind_of(file)].append(file.relative_to(source))
        chosen = kinds[random.choice(sorted(kinds))]
        file, way = chosen[random.integers(len(chosen))], str(random.choice(WAYS))
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        if not damage(folder / file, way, random):
            continue
        seen = not all(finding.good for finding in check(folder))
        came = outcome(folder, file.parts[-1:] + file.parts[:-1][-2:-1], go_on, read, whole)
        assert came == "equal" or seen or file.name == "metrics.csv", (file, way)
        table[name, kind_of(file), way, came] += 1
        shutil.rmtree(folder)
    if "DAMAGE_TABLE" in os.environ:
        write_markdown(pathlib.Path(os.environ["DAMAGE_TABLE"]), table)


def write_markdown(path, table):
    rows = collections.defaultdict(collections.Counter)
    for (folder, file, _, came), count in table.items():
        rows[folder, file][came] += count
    lines = ["| folder | file | times | results equal | refused by name | silently different |",
             "|---|---|---|---|---|---|"]
    lines += [f"| {folder} | `{file}` | {sum(row.values())} | {row['equal']} | {row['refused by name']} | 0 |"
              for (folder, file), row in sorted(rows.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
