"""The commands as a user types them."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers.commands import ROOT, launch
from helpers.runs import write_npz

from margin_jax.run_folder import read as records


def typed(script, *arguments, **environment):
    """Runs a command in a process that begins with Python's start."""
    changed = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    return subprocess.run([sys.executable, ROOT / "launch" / script, *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, check=False,
                          env={name: value for name, value in changed.items() if value})


@pytest.fixture(name="arguments")
def _arguments(tmp_path):
    write_npz(tmp_path / "own.npz")
    return ["--config=configs/quickstart.py", "--config.data.name=npz", f"--config.data.dir={tmp_path / 'own.npz'}",
            "--config.epochs=30", "--config.compress.keep=6", "--config.compress.epochs=2",
            "--config.model.widths=(4,)",
            "--config.optimizer.learning_rate=0.02", "--config.batch_size=7", "--config.log_every_seconds=0"]


def test_train_writes_a_run_and_its_figures(arguments, tmp_path):
    done = typed("train.py", *arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert records.read_json(tmp_path / "run", "summary.json")["removal"]["kept"] == 6
    figures = {p.name for p in (tmp_path / "run" / "figures").glob("*.png")}
    assert figures == {f"{n}.png" for n in ("errors", "curves", "per_class", "histogram", "gallery")}
    assert all(str(tmp_path / "run" / "figures" / name) in done.stdout for name in figures)
    assert "epoch 1/32  loss" in done.stderr and "data separated at the end of epoch" in done.stderr
    assert "Traceback" not in done.stderr and "I1" not in done.stderr[:2]
    (tmp_path / "run" / "figures" / "curves.pdf").unlink()
    kept = tmp_path / "run" / "figures" / "errors.png"
    kept.write_bytes(b"changed by its user")
    missing = launch("train.py", *arguments, f"--workdir={tmp_path / 'run'}")
    assert missing.returncode == 0 and "a run that is over" in missing.stdout, missing.stderr
    assert missing.stdout.splitlines()[1:] == [str(tmp_path / "run" / "figures" / "curves.pdf")]
    assert kept.read_bytes() == b"changed by its user"
    again = launch("train.py", *arguments, f"--workdir={tmp_path / 'run'}")
    assert again.returncode == 2 and "never overwritten" in again.stderr and "Traceback" not in again.stderr


def test_compress_writes_its_tables_and_its_figure(arguments, tmp_path):
    arguments += ["--config.compress.controls=('frozen','full')", f"--workdir={tmp_path / 'run'}"]
    done = launch("compress.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"3 cells in {tmp_path / 'run'}/cells.csv, 0 of them failed" in done.stdout
    assert str(tmp_path / "run" / "figures" / "fig05.png") in done.stdout
    drawn = (tmp_path / "run" / "figures" / "fig05.png").read_bytes()
    assert launch("plot.py", f"--workdir={tmp_path / 'run'}").returncode == 0
    assert (tmp_path / "run" / "figures" / "fig05.png").read_bytes() == drawn
    (tmp_path / "run" / "figures" / "fig05.png").unlink()
    again = launch("compress.py", *arguments)
    assert again.returncode == 0 and again.stdout.endswith(f"{tmp_path / 'run' / 'figures' / 'fig05.png'}\n")
    assert (tmp_path / "run" / "figures" / "fig05.png").read_bytes() == drawn


@pytest.mark.parametrize("folder,message", [
    ("results/quickstart", "a folder of results, of which tables and figures were kept: it lacks mask.npz"),
    ("results/sweep100", "a folder of results, of which tables and figures were kept: it lacks networks."),
    ("results/cifar2_separation", "holds several runs; give one of them: seed_0, seed_1"),
])
def test_plot_says_what_a_committed_folder_of_results_lacks(folder, message):
    done = launch("plot.py", f"--workdir={folder}")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("environment,status,message", [
    ({"JAX_PLATFORMS": "cuda"}, 2, "error: JAX_PLATFORMS=cuda: JAX has no such device here"),
    ({"MPLBACKEND": "module://not.there", "PYTHONIOENCODING": "ascii", "XDG_CACHE_HOME": "/proc/nothing",
      "JAX_COMPILATION_CACHE_DIR": ""}, 0, "compiled programs are not kept"),
])
def test_the_environment_is_met_in_a_line(arguments, tmp_path, environment, status, message):
    """Also --workdir=~/..., whose ~ a shell leaves as it is, with letters that the terminal does not know."""
    if environment.get("JAX_PLATFORMS") == "cuda" and shutil.which("nvidia-smi"):
        pytest.skip("there may be a GPU")
    home = tmp_path / "h\xf6me"
    home.mkdir()
    done = typed("train.py", *arguments, "--config.epochs=2", "--workdir=~/run", HOME=str(home), **environment)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert status or (home / "run" / "figures" / "errors.png").is_file()


def test_debug_stops_at_the_first_nan_and_leaves_a_good_run_as_it_is(arguments, tmp_path):
    bad = launch("train.py", *arguments, "--config.optimizer.learning_rate=1e30", "--debug", "--nofigures",
                 f"--workdir={tmp_path / 'bad'}")
    assert bad.returncode == 1 and "FloatingPointError: invalid value (nan)" in bad.stderr and "epoch.py" in bad.stderr
    assert "several times as long" in bad.stderr
    for name, flag in (("good", "--debug"), ("plain", "--nodebug")):
        done = launch("train.py", *arguments, flag, "--nofigures", "--config.compress.keep=0",
                      f"--workdir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    losses = [records.read_metrics(tmp_path / name)["train_loss"].tobytes() for name in ("good", "plain")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("script,extra,message", [
    ("train.py", "--config.epochs=many", "epochs"),
    ("train.py", "--config.batchsize=3", "there is no key 'batchsize'; the nearest is 'batch_size'"),
    ("train.py", "--config.batch-size=3", "there is no key 'batch-size'; the nearest is 'batch_size'"),
    ("train.py", "--config.modl.widths=3", "there is no key 'modl.widths'; the nearest is 'model.widths'"),
    ("sweep.py", "--coordinator=host --process_count=2 --process_id=0", "expected --coordinator=HOST:PORT"),
    ("sweep.py", "--coordinator=host:99999 --process_count=2 --process_id=0", "expected --coordinator=HOST:PORT"),
    ("stability.py", "--config=configs/nothing.py", "give a file such as configs/quickstart.py"),
    ("compress.py", "--workdir=/proc/nothing", "choose another --workdir"),
    ("sweep.py", "epochs=3", "expected flags only"),
])
def test_mistakes_on_the_command_line_are_explained(arguments, tmp_path, script, extra, message):
    done = launch(script, *arguments, f"--workdir={tmp_path / 'run'}", *extra.split())
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()
