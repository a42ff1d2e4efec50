"""The benchmark's own arithmetic, without a clock; the cases of both sides do the same work."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from margin_jax.bench import cases, timing
from margin_jax.bench.cases import all_cases
from margin_jax.bench.timing import Pairing
from margin_jax.errors import InputError
from margin_jax.models.convnet import CANDIDATE, DESCRIBED

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Clock:
    """A clock that work moves forward; every call is slower than the last, as on a machine that drifts."""

    def __init__(self, monkeypatch):
        self.now, self.drift, self.calls, self.reads = 0.0, 1.0, [], 0
        monkeypatch.setattr(timing.time, "perf_counter", self.read)

    def read(self):
        self.reads += 1
        return self.now

    def work(self, name, duration):
        def call():
            self.now += duration * self.drift
            self.drift *= 1.01
            self.calls.append(name)
        return call


def test_pairs_alternate_and_drift_cancels(monkeypatch):
    clock = Clock(monkeypatch)
    pairing = timing.compare(clock.work("ours", 1.0), clock.work("theirs", 2.0), 8)
    assert clock.calls[4 + 2:] == ["ours", "theirs", "theirs", "ours"] * 4  # after warm-up and counting of calls
    np.testing.assert_allclose(pairing.ratio, 0.5, rtol=0.011)
    assert pairing.low <= pairing.ratio <= pairing.high < 0.51 and pairing.ours < pairing.theirs


def test_short_work_is_repeated_within_a_sample(monkeypatch):
    clock = Clock(monkeypatch)
    clock.work("once", timing.SHORTEST / 10)()
    pairing = timing.compare(clock.work("ours", timing.SHORTEST / 10), clock.work("theirs", 1.0), 1)
    assert 8 <= clock.calls.count("ours") - 3 <= 10 and clock.calls.count("theirs") == 4
    assert pairing.ours < timing.SHORTEST / 5


def test_the_fastest_variant_is_the_one_with_the_smallest_median(monkeypatch):
    clock = Clock(monkeypatch)
    variants = {name: clock.work(name, duration) for name, duration in (("a", 3.0), ("b", 1.0), ("c", 2.0))}
    assert timing.fastest(variants, 3) == ("b", variants["b"])
    assert clock.reads == 2 * 3 * 3  # before and after each call that is timed


def test_rows_are_saved_as_json_and_markdown_and_misses_are_marked(tmp_path):
    rows = [cases.make_row("fast", Pairing(0.001, 0.002, 0.5, 0.4, 0.6), 0.7, "PyTorch nhwc"),
            cases.make_row("slow", Pairing(0.002, 0.002, 1.0, 0.9, 1.1), 0.7, "PyTorch nhwc"),
            cases.make_row("free", Pairing(0.002, 0.002, 1.0, 0.9, 1.1), None, "ours")]
    cases.save(tmp_path / "new", rows, {"device": "cpu"})
    stored = json.loads((tmp_path / "new" / "benchmark.json").read_text())
    assert stored == {"machine": {"device": "cpu"}, "rows": rows}
    assert {"name", "ours_seconds", "theirs_seconds", "ratio", "low", "high"} <= stored["rows"][0].keys()
    lines = (tmp_path / "new" / "benchmark.md").read_text().splitlines()
    assert [("missed" in line) for line in lines[2:5]] == [False, True, False]
    assert lines[2].startswith("| fast | 1 | 2 | 0.5 (0.4–0.6) | ≤ 0.7 |")


def test_every_row_that_the_issue_names_is_there():
    names = [case.name for case in all_cases()]
    assert len(set(names)) == len(names)
    for batch in ("batch 1", "batch 10", "batch 50", "batch 250", "full gradient descent"):
        assert f"train: {batch}" in names and f"train: {batch}, BatchNorm" in names
    for kept in (10_000, 1_000, 200, 20):
        assert f"kept: {kept} of 50000" in names
    for count in (1, 8, 32, 100):
        assert f"networks: {count}, batch 50, each" in names
    assert 0 < len(cases.chosen([], True)) < len(cases.chosen([], False)) == len(names)


def test_a_pattern_that_names_nothing_is_refused():
    assert [case.name for case in cases.chosen(["train: batch 250"], False)] == [
        "train: batch 250", "train: batch 250, BatchNorm"]
    assert cases.chosen(["start"], False) == []
    with pytest.raises(InputError, match="no case contains any of.*\n  start\n"):
        cases.chosen(["trian"], False)
    with pytest.raises(InputError, match="without --quick"):
        cases.chosen(["start"], True)


def test_a_missing_pytorch_is_named_before_anything_is_measured(monkeypatch):
    asked = []
    monkeypatch.setattr(cases.importlib.util, "find_spec", asked.append)  # returns None: no such package
    with pytest.raises(InputError, match="PyTorch is not installed; pip install"):
        cases.need_torch()
    assert asked == ["torch"]


@pytest.mark.slow
def test_rows_without_pytorch_are_measured_in_their_own_process(tmp_path):
    path = tmp_path / "row.json"
    subprocess.run([sys.executable, ROOT / "launch" / "benchmark.py", "--inner=networks: 1, batch 1, each, in turn",
                    f"--inner_file={path}", "--pairs=1"], check=True, capture_output=True)
    row = json.loads(path.read_text())
    assert row["name"] == "networks: 1, batch 1, each, in turn" and row["theirs"] == "ours, one network"
    assert row["ours_seconds"] > 0 and row["ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("section", [DESCRIBED, CANDIDATE], ids=["described", "candidate"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_both_sides_train_the_same_network(batch_norm, section):
    pytest.importorskip("torch")
    import jax

    from margin_jax.bench import ours, pytorch
    theirs = sum(p.numel() for p in pytorch.make_network(batch_norm, section=section).parameters())
    params, _ = jax.eval_shape(ours._network(batch_norm, section=section).init, jax.random.key(0),
                               np.zeros((1, 32, 32, 3), np.float32))
    assert theirs == sum(leaf.size for leaf in jax.tree.leaves(params))
    for work in pytorch.epochs(*ours.pictures(20), 8, batch_norm, False, section).values():
        work()
    for work in pytorch.forwards(*ours.pictures(20), batch_norm, False).values():
        work()
