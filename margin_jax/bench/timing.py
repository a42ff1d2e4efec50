"""Wall-clock times of two sides in turn, so that a machine whose speed drifts slows both alike.

`compare` times two pieces of work within this process. `compare_starts` times whole processes, from their start to the
first finished epoch of the quickstart network, as a user waits for it.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Work = Callable[[], None]  # returns when it is done, not when it has been dispatched
SHORTEST = 0.05  # seconds; work that takes less is repeated within a sample


class Pairing(NamedTuple):
    """Medians over pairs, in seconds for one call, and the ratio ours / theirs with its quartiles."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def seconds(work: Work, calls: int = 1) -> float:
    """Wall seconds of one call, the mean over `calls` >= 1 of them."""
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls


def _calls(work: Work) -> int:
    return max(1, round(SHORTEST / max(seconds(work), 1e-9)))


def compare(ours: Work, theirs: Work, pairs: int) -> Pairing:
    """Times two pieces of work in turn, each warmed up by two calls, the first of a pair changing every time.

    Args:
      ours: the numerator.
      theirs: the denominator.
      pairs: >= 1.

    Returns:
      Medians; `low` and `high` are the quartiles of the ratios of pairs.
    """
    for work in (ours, theirs, ours, theirs):
        work()
    calls = _calls(ours), _calls(theirs)
    samples = np.empty((pairs, 2))
    for index in range(pairs):
        for side in ((0, 1), (1, 0))[index % 2]:
            samples[index, side] = seconds((ours, theirs)[side], calls[side])
    low, ratio, high = np.quantile(samples[:, 0] / samples[:, 1], (0.25, 0.5, 0.75))
    return Pairing(*np.median(samples, 0).tolist(), float(ratio), float(low), float(high))


def fastest(variants: dict[str, Work], rounds: int) -> tuple[str, Work]:
    """The variant of the smallest median time over some calls in turn, after two calls to warm up.

    Args:
      variants: work by name, one at least.
      rounds: timed calls of each, >= 1.

    Returns:
      Its name and work.
    """
    for work in variants.values():
        work()
        work()
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            times[name].append(seconds(work))
    best = min(times, key=lambda name: float(np.median(times[name])))
    return best, variants[best]


LIMIT = 300.0  # seconds that a start may take
# PyTorch's side of a start: import and one epoch of the same network on as many of scikit-learn's scans.
PYTORCH = """
import sys, numpy as np, torch
from sklearn.datasets import load_digits
from margin_jax.bench import pytorch
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1)[:1437] * 15).astype(np.uint8)
torch.manual_seed(0)
x, y = pytorch.tensors(images, labels[:1437], torch.channels_last)
network = pytorch.make_network(False, 8, 1)
optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
for start in range(0, len(y), 50):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(x[start:start + 50]), y[start:start + 50]).backward()
    optimizer.step()
"""


def _until_first_epoch(root: pathlib.Path, workdir: pathlib.Path, env: Mapping[str, str]) -> float:
    """Seconds until launch/train.py has recorded an epoch; the run is then stopped."""
    command = [sys.executable, str(root / "launch" / "train.py"), f"--config={root / 'configs' / 'quickstart.py'}",
               f"--workdir={workdir}", "--nofigures"]
    start = time.perf_counter()
    process = subprocess.Popen(command, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = workdir / "metrics.csv"
    try:
        while not (metrics.is_file() and metrics.read_text(encoding="utf-8").count("\n") >= 2):
            if process.poll() is not None or time.perf_counter() - start > LIMIT:
                raise RuntimeError(f"{' '.join(command)} recorded no epoch; exit status {process.poll()}")
            time.sleep(0.005)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()


def _pytorch(env: Mapping[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", PYTORCH], env=dict(env), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def compare_starts(root: pathlib.Path, env: Mapping[str, str], pairs: int) -> dict[str, Pairing]:
    """Starts both sides in turn: ours with an empty cache of compiled programs, ours with the cache filled, PyTorch.

    Args:
      root: the project's folder.
      env: environment of the processes, in which the cache's folder is replaced.
      pairs: >= 1.

    Returns:
      By the row's name, in seconds; ours includes data, checkpoint and record, PyTorch's epoch does not.

    Raises:
      RuntimeError: ours ended, or took longer than `LIMIT`, before it had recorded an epoch.
      subprocess.CalledProcessError: PyTorch's side failed.
    """
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(pairs):
            base = pathlib.Path(folder) / str(index)
            cached = {**env, "PYTHONPATH": str(root), "JAX_COMPILATION_CACHE_DIR": str(base / "cache"),
                      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            cold, warm = (_until_first_epoch(root, base / name, cached) for name in ("cold", "warm"))
            times.append([cold, warm, _pytorch(cached)])
    columns = np.array(times)
    rows = {}
    for place, name in enumerate(("cold", "warm")):
        ratios = np.quantile(columns[:, place] / columns[:, 2], (0.5, 0.25, 0.75)).tolist()
        rows[f"start: {name}, to the first epoch"] = Pairing(float(np.median(columns[:, place])),
                                                            float(np.median(columns[:, 2])), *ratios)
    return rows
