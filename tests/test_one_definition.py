"""Every number has one definition: jobs record, figures draw and audits judge with the functions that users import."""

import ast
import pathlib
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

import margin_jax as mj
from margin_jax.run_folder.read import Margins
from margin_jax.theory import selection

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What jobs and figures are made of: neither may define what the public face gives.
USERS = sorted(path for folder in ("plots", "margin_jax/experiments", "margin_jax/run_folder", "margin_jax/statistics")
               for path in (ROOT / folder).rglob("*.py"))
TREE = sorted(path for folder in ("plots", "margin_jax") for path in (ROOT / folder).rglob("*.py"))
# Compiled once for many calls; what they compile is the public one.
COMPILED = {("removal.py", "el2n"), ("removal.py", "grand")}


def definitions(path):
    """Classes and functions of a file, also inside functions, by their names without underscores; methods left out."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    methods = {child for node in nodes if isinstance(node, ast.ClassDef) for child in node.body}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node not in methods:
            yield node.name.strip("_"), node


def homes(path):
    """The public names whose room is this file."""
    room = ".".join(path.relative_to(ROOT / "margin_jax").with_suffix("").parts) if "margin_jax" in path.parts else ""
    return set(mj._NAMES.get(room, ()))


def second_definitions(paths):
    """Public names that files other than their own define once more."""
    return {(path.name, name) for path in paths for name, _ in definitions(path)
            if name in set(mj.__all__) - homes(path)} - COMPILED


def shared_class_names(paths):
    """Names of classes that stand in more than one place."""
    names = Counter(name for path in paths for name, node in definitions(path) if isinstance(node, ast.ClassDef))
    return {name for name, times in names.items() if times > 1}


def test_no_file_defines_once_more_what_users_import():
    assert not second_definitions(USERS)


def test_no_two_classes_have_one_name():
    assert not shared_class_names(TREE)


@pytest.mark.parametrize("code, name", [
    ("def overlap(a, b):\n    return 0\n", "overlap"), ("def _spearman(a, b):\n    return 0\n", "spearman"),
    ("def f():\n    def auc_mean(m):\n        return m.mean()\n    return auc_mean\n", "auc_mean"),
    ("class Split:\n    pass\n", "Split")])
def test_a_planted_second_definition_is_seen(tmp_path, code, name):
    (tmp_path / "planted.py").write_text(code)
    assert second_definitions([tmp_path / "planted.py"]) == {("planted.py", name)}


def test_a_planted_second_class_is_seen(tmp_path):
    (tmp_path / "planted.py").write_text("class Estimate(tuple):\n    pass\n")
    assert shared_class_names([*TREE, tmp_path / "planted.py"]) == {"Estimate"}


# Second definitions under other names, which no rule on names sees: each pair has to agree.


def test_a_run_folder_normalises_as_users_do():
    rng = np.random.default_rng(0)
    raw, rho = rng.normal(size=(3, 50)).astype(np.float32), rng.gamma(2, 1e30, 3)
    stored = Margins(np.arange(3), np.arange(50), np.zeros(50, np.int32), raw, rho)
    for row in range(3):
        expected = mj.normalised_margins(raw[row].astype(np.float64), rho[row])
        np.testing.assert_array_equal(stored.normalised(row), expected)


def test_the_measures_of_a_sweep_are_the_readings_that_users_take():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 3, 60)
    gammas = mj.Gammas((0.01, 0.5), ())
    measures = mj.margin_measures(logits, labels, np.log(7.0), gammas)
    normalised = mj.normalised_margins(np.asarray(mj.margins(logits, labels), np.float64), 7.0)
    assert measures["auc_mean"] == pytest.approx(mj.auc_mean(normalised), rel=1e-5)
    assert measures["margin_smallest"] == pytest.approx(mj.margin_curve(normalised)[1][0], rel=1e-5)
    for gamma in gammas.absolute:
        for reading in (mj.auc_ramp, mj.auc_tail, mj.small_margin_count):
            expected = pytest.approx(reading(normalised, gamma), rel=1e-5)
            assert measures[f"{reading.__name__}_absolute@{gamma:g}"] == expected


@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_rule_smallest_keeps_the_support_set(k):
    values = np.random.default_rng(1).integers(0, 9, 40).astype(np.float32)  # with ties
    kept = np.flatnonzero(selection.select("smallest", jnp.asarray(values), k))
    np.testing.assert_array_equal(kept, np.sort(mj.support_set(values, np.arange(40), k)))
