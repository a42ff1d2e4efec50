"""A disk that gives no more in the middle of a run: one line, the last state whole, and the run ends as ever."""

import functools
import os
import resource
import shutil
import subprocess

import pytest
from helpers.commands import Command, launch
from helpers.runs import write_npz

from margin_jax.run_folder import read


@pytest.fixture(name="job", scope="module")
def _job(tmp_path_factory):
    """A command whose margins outgrow all its other files, and the run folder that it leaves undisturbed."""
    folder = tmp_path_factory.mktemp("job")
    write_npz(folder / "own.npz", count=300)
    job = ["--config=configs/quickstart.py", "--config.data.name=npz", f"--config.data.dir={folder / 'own.npz'}",
           "--config.epochs=60", "--config.stop.rule=epochs", "--config.compress.keep=0", "--config.model.widths=(4,)",
           "--config.checkpoint_seconds=0.5", "--config.batch_size=50", "--config.log_every_seconds=0", "--nofigures"]
    assert train(job, folder / "whole").returncode == 0
    return job, folder / "whole"


def train(job, path, first=None):
    return launch("train.py", *job, f"--workdir={path}", first=first)


def ends_equal(job, path):
    job, whole = job
    done = train(job, path)
    assert done.returncode == 0, done.stderr
    for name, column in read.read_metrics(whole).items():
        if name != "seconds":
            assert column.tobytes() == read.read_metrics(path)[name].tobytes(), name
    assert read.read_margins(whole).margins.tobytes() == read.read_margins(path).margins.tobytes()


def explained(done, words):
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert words in done.stderr.splitlines()[-1] and "the same command goes on" in done.stderr.splitlines()[-1]


def test_a_limit_of_file_sizes(job, tmp_path):
    """Met inside a row of margins.partial: 40 rows of 301 numbers and a half."""
    limit = 40 * 4 * 301 + 600
    done = train(job[0], tmp_path / "run", functools.partial(
        resource.setrlimit, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)))
    explained(done, f"{tmp_path / 'run'}: File too large")
    ends_equal(job, tmp_path / "run")


def test_a_full_disk(job, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", disk],
                                                       capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here; a limit of file sizes stands for it")
    try:
        explained(train(job[0], disk / "run"), "No space left on device")
        assert subprocess.run(["mount", "-o", "remount,size=20m", disk], check=False).returncode == 0
        ends_equal(job, disk / "run")
    finally:
        subprocess.run(["umount", disk], check=True)


def interfere(job, path, change):
    """Does something to the folder of a run that has recorded some epochs; how the process ends."""
    process = Command("train.py", *job, f"--workdir={path}")
    for line in process.stderr:
        if "epoch 8/" in line:
            break
    change()
    _, rest = process.communicate(timeout=60)
    return subprocess.CompletedProcess("train.py", process.returncode, "", rest)


LONG = ["--config.epochs=100000"]


def test_a_folder_that_is_moved_away_and_brought_back(job, tmp_path):
    path = tmp_path / "run"
    done = interfere([*job[0], *LONG], path, lambda: path.rename(tmp_path / "moved"))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"{path}: No such file or directory; it was there before" in done.stderr.splitlines()[-1]
    assert not path.exists()  # no part of the run is begun anew
    assert read.read_metrics(tmp_path / "moved")["epoch"].size >= 8


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_no_longer_be_written(job, tmp_path):
    path = tmp_path / "run"
    try:
        done = interfere([*job[0], *LONG], path, lambda: (path / "metrics.csv").chmod(0o400))
        explained(done, "Permission denied")
    finally:
        (path / "metrics.csv").chmod(0o600)
