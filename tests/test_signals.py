"""SIGTERM and Ctrl-C, sent to the commands as users type them: saved within seconds, and bit-equal once continued."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from helpers.commands import ROOT, Command, launch
from helpers.interruptions import results
from helpers.runs import write_npz

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
ENV = os.environ | {"JAX_PLATFORMS": "cpu"}


def start_python(*arguments):
    # Jobs in the background of a shell without job control ignore Ctrl-C, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=ENV)
    finally:
        signal.signal(signal.SIGINT, before)


def stop_at(process, word, number):
    """Sends a signal after a line of stderr that holds `word`; what came before, what follows, how long that takes."""
    before = []
    for line in process.stderr:
        before.append(line)
        if word in line:
            break
    else:
        raise AssertionError(f"ended with {process.wait()} before {word!r}")
    sent = time.monotonic()
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    return "".join(before), rest, time.monotonic() - sent


def epochs_in(text):
    """The epochs that a process says it trained, in order."""
    return [int(line.split("/")[0].split()[1]) for line in text.splitlines() if line.startswith("epoch ")]


def taken_over(process):
    """Waits until the process catches SIGTERM, which Python itself does not."""
    while True:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


def finish(script, arguments):
    done = launch(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(name="arguments", scope="module")
def _arguments(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "own.npz"
    write_npz(path)
    return ["--config=configs/quickstart.py", "--config.data.name=npz", f"--config.data.dir={path}",
            "--config.epochs=60", "--config.compress.keep=6", "--config.compress.epochs=40",
            "--config.model.widths=(4,)",
            "--config.optimizer.learning_rate=0.02", "--config.batch_size=7", "--config.log_every_seconds=0",
            "--config.checkpoint_seconds=1e9", "--nofigures"]


@pytest.mark.parametrize("script,number,more,words", [
    ("train.py", signal.SIGINT, (), ("epoch 3/", "kept 6 of")),
    ("compress.py", signal.SIGTERM, ("--config.compress.controls=('frozen','full')",), ("epoch 4/", "epoch 45/")),
    ("sweep.py", signal.SIGINT, ("--config.compress.keep=0", "--config.sweep.networks=4", "--config.sweep.chunk=2",
                                 "--config.sweep.init_stds=()"), ("epoch 2/", "chunk 2/2")),
    ("stability.py", signal.SIGTERM, ("--config.compress.keep=0", "--config.stability.trials=2",
                                      "--config.stability.chunk=2", "--config.stability.epochs=4",
                                      "--config.stability.deletions=()"), ("epoch 2/", "trial ")),
])
def test_a_stopped_job_saves_and_goes_on_to_the_same_end(arguments, tmp_path, script, number, more, words):
    """Twice stopped; each stop loses nothing but the time that it takes to start again.

    Checkpoints by time are off: what the continued job does not train again was saved because of the signal.
    """
    job, trained = [*arguments, *more], 0
    for word in words:
        process = Command(script, *job, f"--workdir={tmp_path / 'stopped'}")
        before, rest, seconds = stop_at(process, word, number)
        assert process.returncode == STATUS[number], rest
        assert "the same command goes on" in rest and "Traceback" not in rest and seconds < 10, rest
        assert not list((tmp_path / "stopped").glob("summary.json"))
        if script == "train.py":
            assert "saving after the epoch under way" in rest and min(epochs_in(before)) > trained, before + rest
            trained = max(epochs_in(before + rest))
    done = finish(script, [*job, f"--workdir={tmp_path / 'stopped'}"])
    assert script != "train.py" or min(epochs_in(done.stderr)) > trained > 3, done.stderr
    finish(script, [*job, f"--workdir={tmp_path / 'whole'}"])
    assert len(results(tmp_path / "whole")) > 1
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


# A loop whose epoch is one call into C that never looks at signals, as a compiled epoch is.
LONG = """
import hashlib, sys
from margin_jax import signals
signals.install()
signals.set_grace(float(sys.argv[1]))
with signals.deferred():
    print("epoch", file=sys.stderr, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)
"""


def start_long(grace):
    return start_python("-c", LONG, str(grace))


@pytest.mark.parametrize("number", STATUS)
def test_a_second_signal_ends_at_once(number):
    process, name = start_long(grace=60), "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert process.stderr.readline() == "epoch\n"
    process.send_signal(number)
    assert process.stderr.readline().startswith(f"{name}: saving")
    time.sleep(0.2)  # at once, the same signal to the process and to its group are one request
    process.send_signal(number)
    sent = time.monotonic()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == STATUS[number] and time.monotonic() - sent < 3
    assert rest == f"ended by {name}; the same command goes on\n"


def test_an_epoch_that_takes_too_long_is_left():
    process = start_long(grace=0.3)
    _, rest, seconds = stop_at(process, "epoch", signal.SIGTERM)
    assert process.returncode == 143 and 0.3 < seconds < 3 and "took longer than 0.3 s" in rest, rest
    assert "from the last checkpoint" in rest and "Traceback" not in rest


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").is_file(), reason="asks Linux which signals are caught")
@pytest.mark.parametrize("number,after", [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.0), (signal.SIGINT, 0.3),
                                          (signal.SIGTERM, 0.7)])
def test_a_signal_during_the_imports_ends_the_process(arguments, tmp_path, after, number):
    process = start_python(ROOT / "launch" / "train.py", *arguments, "--config.epochs=1000000",
                           f"--workdir={tmp_path / 'run'}")
    taken_over(process)
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == STATUS[number] and "Traceback" not in errors, errors
    assert errors.count("the same command goes on") == 1


def test_ignored_signals_stay_ignored():
    """As under nohup, or for Ctrl-C in the background of a script."""
    code = ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom margin_jax import signals\n"
            "signals.install()\nimport os\nos.kill(os.getpid(), signal.SIGINT)\nprint('alive')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "alive\n", done.stderr


def test_without_install_nothing_is_asked_for():
    from margin_jax import signals

    handler = signal.getsignal(signal.SIGTERM)
    with signals.deferred():
        assert not signals.requested()
    signals.reinstall()
    assert signal.getsignal(signal.SIGTERM) == handler
