"""Figures of a compression show what its work folder holds."""

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers.compress_folders import (
    by_gid,
    cell,
    curve,
    expected,
    read_rows,
    write_continuous,
    write_grid,
    write_immediate,
    write_table,
)

from margin_jax.data.load import load_data
from margin_jax.errors import InputError
from margin_jax.run_folder.tables import read_table, rows
from margin_jax.statistics.estimates import t_interval
from plots.compress import draw as draw_compress
from plots.compress import fig04, fig05, read
from plots.compress.read import summarise
from plots.style import band, ends
from plots.tables import interval_text

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_intervals_are_students_t():
    values = np.array([[1.0, 5.0, np.nan], [2.5, np.nan, np.nan], [2.0, 7.0, np.nan], [9.0, 6.5, 3.0]])
    found = t_interval(values)
    for column in range(3):
        good = values[np.isfinite(values[:, column]), column].tolist()
        np.testing.assert_allclose((found.value[column], found.half[column]), expected(good))
        assert found.n[column] == len(good)
    low, high = ends(np.array([[1.0, 1.0, np.nan], [2.0, np.nan, np.nan], [4.0, np.nan, np.nan]]))
    np.testing.assert_allclose((low, high), ([7 / 3 - 3.794583, 1, np.nan], [7 / 3 + 3.794583, 1, np.nan]), rtol=1e-6)
    np.testing.assert_allclose(ends(np.array([1.0, 3.0])), (-1.0, 5.0))
    np.testing.assert_allclose(band(values)[1], (*found.high[:2], np.nan))
    assert np.isnan(band(values[:2])).all()
    assert interval_text(t_interval(np.array([1.0, 2.0]))) == "1.50 ± 6.35"
    assert interval_text(t_interval(np.array([]))) == "–"
    assert interval_text(t_interval(np.array([-0.126])), sign=True) == "−0.13"
    assert interval_text(t_interval(np.array([2]))) == "2.00"


@pytest.mark.parametrize("seeds, controls", [(4, True), (1, False)])
def test_immediate_removals_show_means_over_seeds(tmp_path, seeds, controls):
    write_immediate(tmp_path, seeds, rules=("smallest", "random") if controls else ("smallest",), controls=controls)
    cells, curves = read_table(tmp_path, "cells.csv"), read_table(tmp_path, "curves.csv")
    fig = fig05.draw_figure(cells, curves, "convnet")
    told = read_rows(tmp_path, "curves.csv")
    last = {row["seed"]: max(int(r["epoch"]) for r in told if r["rule"] == "base" and r["seed"] == row["seed"])
            for row in told}
    for rule, kept, scope in (("smallest", 100, "after"), *((("random", 200, "scratch"),) if controls else ())):
        line = by_gid(fig.axes[4], f"{rule}-{kept}-{scope}")
        assert line.get_xdata()[-50:].tolist() == list(range(1, 51))
        mine = [row for row in told if (row["rule"], row["kept"], row["scope"]) == (rule, str(kept), scope)]
        at = [float(r["test_error"]) for r in mine if int(r["epoch"]) - last[r["seed"]] == 7]
        assert len(at) == seeds and line.get_ydata()[-44] == pytest.approx(np.mean(at))
    assert max(line.get_xdata().max() for line in fig.axes[3].lines) == 0
    shown = [text.get_text() for text in fig.axes[6].texts]
    drops = [float(row["drop"]) for row in read_rows(tmp_path, "cells.csv")
             if (row["rule"], row["kept"], row["scope"]) == ("smallest", "200", "after")]
    mean, half = expected(drops)
    assert "+2.89" in shown and f"+{mean:.2f}" + (f" ± {half:.2f}" if seeds > 1 else "") in shown
    assert ("frozen" in shown, "scratch: random" in shown) == (controls, controls)
    assert fig05.draw_figure(rows(cells, rule="no such rule"), rows(curves, rule="base"), "convnet").axes


def test_immediate_failures_and_the_accuracy_before_are_told(tmp_path):
    cells = [cell("smallest", seed, "after", 20, 18, 17, status="diverged" if seed else "finished",
                  reason="loss inf" * bool(seed)) for seed in range(3)]
    write_table(tmp_path, "cells.csv", [*cells, cell("frozen", 0, "after", 17.5, 18, 17.5, 0, 0, 50_000)])
    found = summarise(read_table(tmp_path, "cells.csv"), ("rule", "kept", "scope"))
    table, notes = fig05.build({(rule, int(kept), scope): one for (rule, kept, scope), one in found.items()},
                                         "densenet")
    assert [row.texts[0] for row in table] == ["frozen", "smallest"]
    assert table[1].texts[2:5] == ("20.00", "+2.00", "+4.49") and table[1].texts[-1] == "1, 2 failed"
    assert "Test accuracy at the removal: 82.50%; paper: 82.7%." in notes and "Failed, 2 in all: loss inf" in notes


@pytest.mark.parametrize("seeds, stds", [(3, (0.01, 0.09)), (1, ("",))])
def test_continuous_removals_show_means_over_seeds(tmp_path, seeds, stds):
    write_continuous(tmp_path, seeds, stds=[std or 0.05 for std in stds], rules=("smallest", "random"))
    for name in ("removals.csv", "curves.csv"):
        write_table(tmp_path, name, [{**row, "init_std": row["init_std"] if stds[0] else ""}
                                     for row in read_rows(tmp_path, name)])
    removals, curves = read_table(tmp_path, "removals.csv"), read_table(tmp_path, "curves.csv")
    fig, told = fig04.draw_figure(removals, curves), read_rows(tmp_path, "removals.csv")
    for place, std in enumerate(stds):
        mine = [row for row in told if row["init_std"] == str(std)]
        line = by_gid(fig.axes[2 * place + 1], "random")
        errors = [float(r["test_error"]) for r in mine if (r["rule"], r["kept"]) == ("random", "100")]
        assert line.get_ydata()[line.get_xdata().tolist().index(100)] == pytest.approx(np.mean(errors))
        assert by_gid(fig.axes[2 * place], "not separated").get_xdata().size == 1
        rises = [float(r["test_error"]) - float(next(b["test_error"] for b in mine if b["step"] == "0" and
                                                     (b["seed"], b["rule"]) == (r["seed"], r["rule"])))
                 for r in mine if (r["rule"], r["kept"]) == ("smallest", "20")]
        mean, half = expected(rises)
        shown = f"+{mean:.2f}{f' ± {half:.2f}' if seeds > 1 else ''} ({seeds})"
        assert shown in [text.get_text() for text in fig.axes[-1].texts]
    table = fig04.build(read.split(removals, curves)).rows
    shown = [row.texts[1] for row in table if row.texts[0].endswith("paper")]
    assert shown == (["+0.68", "+1.43"] if len(stds) == 2 else [])
    assert fig04.draw_figure(rows(removals, step=0.0), rows(curves, rule="nothing")).axes


def test_networks_differ_by_optimiser_and_std_and_may_be_fresh(tmp_path):
    write_continuous(tmp_path, 1, (0.09, 0.01), ("smallest",))
    told = {name: read_rows(tmp_path, name) for name in ("removals.csv", "curves.csv")}
    fresh = [curve("smallest", 0, 100, "scratch", range(3), (90, 75, 70.5), 0.01)]
    write_table(tmp_path, "curves.csv", [*told["curves.csv"], *fresh[0]])
    found = read.split(read_table(tmp_path, "removals.csv"), read_table(tmp_path, "curves.csv"))
    assert [network.name for network in found] == ["A, init std 0.01", "B, init std 0.09"]
    scratch = [row.texts[1:3] for row in fig04.build(found).rows if "scratch" in row.texts[0]]
    assert scratch == [("+38.50 (1)", "–")]
    for name, table in told.items():
        write_table(tmp_path, name, table + [{**row, "optimizer": "adam", "init_std": ""} for row in table
                                             if row["init_std"] == "0.01"])
    found = read.split(read_table(tmp_path, "removals.csv"), read_table(tmp_path, "curves.csv"))
    assert [network.name for network in found] == ["A, adam, default initial weights", "B, sgd, init std 0.01",
                                                   "C, sgd, init std 0.09"]
    assert {str(o) for o in found[0].curves["optimizer"]} == {"adam"} and found[1].removals["step"].size == 45


def test_full_data_is_compared_after_as_many_epochs(tmp_path):
    write_continuous(tmp_path, 2, stds=(0.01,), rules=("smallest",))
    removals, curves = read_table(tmp_path, "removals.csv"), read_table(tmp_path, "curves.csv")
    curves = rows(curves, epoch=tuple(float(e) for e in range(100) if e % 2))  # recorded every other epoch
    found = read.full_steps(curves, removals, "smallest")
    for seed, (kept, epochs) in enumerate((read.steps(removals, "smallest").kept, at) for at in
                                          read.steps(removals, "smallest").epoch):
        full = {e: error for e, error, rule, s in zip(curves["epoch"], curves["test_error"], curves["rule"],
                                                      curves["seed"]) if rule in ("full", "base") and s == seed}
        wanted = [full[max(e for e in full if e <= epoch)] if epoch <= max(full) else math.nan for epoch in epochs]
        np.testing.assert_array_equal(found[seed], wanted)
        assert kept[0] == 50_000 and kept[-1] == 1 and np.all(np.diff(kept) < 0)
    assert read.full_steps(rows(curves, rule="base"), removals, "smallest") is None


def test_the_last_kept_are_the_pictures_of_the_data(tmp_path):
    write_continuous(tmp_path / "run", 2, rules=("smallest",))
    train, entries = load_data("digits").train, json.loads((tmp_path / "run" / "kept_ids.json").read_text())
    wanted = next(e["ids"] for e in entries if (e["init_std"], e["seed"], e["kept"]) == (0.09, 0, 20))
    axes = fig04.draw_folder(tmp_path / "run").axes
    assert len(axes) == 40 and axes[25].texts[0].get_text().startswith(f"id {wanted[5]}\n")
    picture = train.images[train.ids == wanted[5]][0, ..., 0] / 16
    np.testing.assert_allclose(axes[25].images[0].get_array(), picture)
    chosen = fig04.choose([{**entry, "init_std": None} for entry in entries] + entries)
    assert [one.init_std for one in chosen[:2]] == [0.01, 0.09] and math.isnan(chosen[2].init_std)
    more = fig04.choose([{**entries[0], "kept": 100, "ids": list(range(100))}])
    assert more[0].kept == 100 and more[0].ids.tolist() == list(range(20))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["digest"] = "0" * 64
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="--data_dir"):
        fig04.draw_folder(tmp_path / "run")
    (tmp_path / "run" / "kept_ids.json").write_text("[]")
    with pytest.raises(InputError, match="no network has removed"):
        fig04.draw_folder(tmp_path / "run")


def test_rules_of_every_kind_have_a_name_and_a_place():
    found = read.rules_in_order(["aum+balanced", "random", "new", "full", "smallest", "random"])
    assert found == ["full", "smallest", "random", "aum+balanced", "new"]
    assert read.name("aum+balanced") == "AUM, balanced" and read.name("el2n", "scratch") == "scratch: EL2N"
    assert read.look("aum").colour == read.look("aum+balanced").colour and read.look("aum") != read.look("largest")


def test_draw_writes_the_figures_of_the_mode_and_touches_nothing_else(tmp_path):
    write_grid(tmp_path, 1, rules=("smallest",))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    paths = draw_compress.draw(tmp_path)
    assert [path.name for path in paths] == [f"table1.{kind}" for kind in ("png", "pdf", "md", "tex", "csv")]
    assert before == {path: path.read_bytes() for path in before} and all(path.stat().st_size for path in paths)
    with pytest.raises(InputError, match="'grid' has no figure 'tabel1'; nearest is 'table1'"):
        draw_compress.draw(tmp_path, ["tabel1"])
    write_continuous(tmp_path / "slow", 1, (0.01,), ("smallest",))
    (tmp_path / "slow" / "removals.csv").unlink()
    names = [path.name for path in draw_compress.draw(tmp_path / "slow", ["fig04_last20"])]
    assert names == ["fig04_last20.png", "fig04_last20.pdf", "fig04_last20.json"]
    with pytest.raises(InputError, match="fig04: .*removals.csv"):
        draw_compress.draw(tmp_path / "slow")


def test_the_script_draws_by_the_job_and_needs_no_jax(tmp_path):
    write_immediate(tmp_path, 1, (200,), ("smallest",), model="densenet")
    code = ("import atexit, os, runpy, sys; sys.argv[:] = sys.argv[1:]; "
            "sys.path[0] = os.path.dirname(sys.argv[0]); "
            "atexit.register(lambda: print({'jax', 'flax', 'optax', 'matplotlib.pyplot'} & set(sys.modules))); "
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    command = [sys.executable, "-W", "error", "-c", code, str(ROOT / "launch" / "plot.py"), f"--workdir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    files = [str(tmp_path / "figures" / f"fig10.{kind}") for kind in ("png", "pdf")]
    assert done.stdout.splitlines() == [*files, "set()"], done.stderr


def test_seeds_that_record_at_different_epochs_are_laid_over_one_another_by_straight_lines():
    columns = {"rule": ["base", "base", *["random"] * 5], "scope": ["base", "base", *["after"] * 5],
               "seed": [0, 1, 0, 0, 1, 1, 1], "kept": [9, 9, 2, 2, 2, 2, 2], "epoch": [5, 8, 5, 10, 8, 10, 13],
               "test_error": [1.0, 2.0, 0.0, 10.0, 1.0, 3.0, 6.0]}
    found = read.align({name: np.array(values) for name, values in columns.items()})["random", 2, "after"]
    assert found.epochs.tolist() == [0, 2, 5]
    np.testing.assert_allclose(found.values, [[0, 4, 10], [1, 3, 6]])
