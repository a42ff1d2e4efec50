"""Figures 3, 13 and 14 and the flatness of margin curves, with and without BatchNorm and L2."""

import csv
import json
import logging

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compress_folders import by_gid, expected
from helpers.condition_folders import EPOCHS, EXAMPLES, write_kinds
from helpers.sweep_folders import read_rows

from margin_jax.run_folder import tables as columns
from plots import style
from plots.sweeps import draw as draw_sweeps
from plots.sweeps import fig03, flatness
from plots.sweeps.read import OtherSweep, read_sweep

CELLS = tuple({"batch_norm": kind, "weight_decay": decay} for kind in (1, 0) for decay in (0.0, 5e-4))
SEPARATION, LAST = 4, EPOCHS[-1]
LATE = [epoch for epoch in EPOCHS if epoch > LAST - (LAST - SEPARATION) / 4]


def curves(both, other, noise=0.02):
    """Curves of spread 0.5 times a power of the epoch, `both` for the network with both and `other` for the others."""

    def margins(kind, seed, epoch):
        power = both if kind["batch_norm"] and kind["weight_decay"] else other
        rng = np.random.default_rng([seed, epoch, kind["batch_norm"], int(1e4 * kind["weight_decay"])])
        spread = 0.3 * epoch**power * np.exp(rng.normal(0, noise))
        scale = -1.0 if epoch == EPOCHS[0] else 0.01 / epoch  # as under a growing rho, which must not count
        return scale * (1 + spread * np.linspace(-1, 1, EXAMPLES) ** 3)

    return margins


def truth(curve):
    low, high = np.quantile(curve, 0.25), np.quantile(curve, 0.75)
    return {"cv": curve.std() / curve.mean(), "iqr": (high - low) / np.median(curve)}


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_jax_and_numpy_arrays_are_measured_alike(count):
    values = np.random.default_rng(count).gamma(2.0, 1e-3, (3, count)).astype(np.float32)
    for name, measure in (("cv", flatness.coefficient_of_variation), ("iqr", flatness.relative_iqr)):
        np.testing.assert_allclose(flatness.MEASURES[name](values.astype(np.float64)),
                                   [measure(jnp.asarray(row)) for row in values], rtol=1e-4, atol=1e-6)
        assert np.isnan(flatness.MEASURES[name](-values)).all()


def test_flatness_is_measured_for_all_and_for_each_class(tmp_path):
    drawn = write_kinds(tmp_path / "s", CELLS, curves(-0.3, 0.1), classes=3)
    cells = flatness.compute_cells(read_sweep(tmp_path / "s"))
    labels = np.arange(EXAMPLES) % 3
    for place, values in enumerate(((1.0, 0.0), (1.0, 5e-4), (0.0, 0.0), (0.0, 5e-4))):
        cell, changes = cells[values], {name: [] for name in flatness.MEASURES}
        for seed, course in enumerate(cell.courses):
            of_epoch = drawn[3 * place + seed]
            for row, epoch in enumerate(EPOCHS):
                for group, mine in enumerate((labels >= 0, *(labels == k for k in range(3)))):
                    for name, value in truth(of_epoch[epoch][mine]).items():
                        if of_epoch[epoch].mean() > 0:
                            np.testing.assert_allclose(course.values[name][row, group], value, rtol=1e-4)
                        else:
                            assert np.isnan(course.values[name][row, group])
            for name in flatness.MEASURES:
                late = np.mean([np.log(truth(of_epoch[epoch])[name]) for epoch in LATE])
                changes[name].append(late - np.log(truth(of_epoch[SEPARATION])[name]))
        for name in flatness.MEASURES:
            mean, half = expected(changes[name])
            found = cell.change(name)
            assert (found.value, found.half) == (pytest.approx(mean, rel=1e-3), pytest.approx(half, rel=1e-2))


@pytest.mark.parametrize("both, other, noise, verdict, more", [
    (-0.3, 0.1, 0.02, "reproduced", "reproduced"), (0.3, 0.1, 0.02, "not reproduced", "not reproduced"),
    (-0.3, -0.1, 0.01, "not reproduced", "reproduced"), (-0.3, 0.0, 0.05, "open", "reproduced")])
def test_flattening_with_both_alone_is_judged(tmp_path, both, other, noise, verdict, more):
    write_kinds(tmp_path / "s", CELLS, curves(both, other, noise))
    found = flatness.claim(flatness.compute_cells(read_sweep(tmp_path / "s")), 5e-4)
    assert found["verdict"] == verdict
    assert {one["flattens_more_with_both"] for one in found["measures"].values()} == {more}


def test_tables_hold_a_row_for_every_network_measure_and_class(tmp_path):
    write_kinds(tmp_path / "s", (*CELLS, {"batch_norm": 1, "weight_decay": 5e-3}), curves(-0.3, 0.1), seeds=1,
                separation=lambda kind, seed: None if kind["weight_decay"] == 5e-3 else SEPARATION)
    cells = flatness.compute_cells(read_sweep(tmp_path / "s"))
    table, numbers = flatness.write_tables(cells, tmp_path, "flatness")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 5 * 2 * 3 and tuple(rows[0]) == flatness.COLUMNS
    last = rows[-6]
    assert (last["weight_decay"], last["examples"], last["separation_epoch"], last["end_over_separation"]) == (
        "0.005", "all", "", "")
    content = json.loads(numbers.read_text())
    # The second strength lacks its network without BatchNorm; one seed has no interval, and a claim stays open.
    assert [(one["weight_decay"], one["verdict"]) for one in content["claims"]] == [(5e-4, "open")]
    change = content["kinds"][1]["ln_end_over_separation"]["cv"]
    assert set(change) == {"all", "class 0", "class 1"} and change["all"]["low"] is None and change["all"]["mean"] < 0
    fig = flatness.draw_figure(cells, "digits")
    assert len(fig.axes) == 10 and "not separated" in fig.axes[4].get_title()
    np.testing.assert_array_equal(by_gid(fig.axes[1], "all-1").get_ydata(),
                                  cells[1.0, 5e-4].courses[0].values["cv"][:, 0])


def test_figure_3_has_a_panel_for_every_kind(tmp_path):
    drawn = write_kinds(tmp_path / "s", CELLS, curves(-0.3, 0.1), seeds=2, status={6: "diverged", 7: "diverged"})
    sweep = read_sweep(tmp_path / "s")
    fig = fig03.draw_sweep(sweep)
    titles = [axes.get_title() for axes in fig.axes[:4]]
    assert titles == ["BatchNorm, no L2", "BatchNorm, L2 0.0005", "no BatchNorm, no L2",
                      "no BatchNorm, L2 0.0005: diverged"]
    for place, axes in enumerate(fig.axes[:3]):
        lines = [line for line in axes.lines if (line.get_gid() or "").startswith("epoch-")]
        assert [line.get_gid() for line in lines] == [f"epoch-{epoch}" for epoch in EPOCHS]
        for line, epoch in zip(lines, EPOCHS):
            np.testing.assert_allclose(line.get_ydata(), np.sort(drawn[2 * place][epoch]), rtol=1e-5)
    assert "seed 0, the first of 2" in fig.get_suptitle()
    by_class = fig03.draw_by_class(sweep, True, "fig13")
    assert "BatchNorm, L2 0.0005, seed 0" in by_class.legends[0].get_title().get_text()
    np.testing.assert_allclose(by_gid(by_class.axes[1], f"epoch-{LAST}").get_ydata(), np.sort(drawn[2][LAST][1::2]),
                               rtol=1e-5)
    # Without BatchNorm the one with L2 diverged: the other one is shown.
    assert "no BatchNorm, no L2" in fig03.draw_by_class(sweep, False, "fig14").legends[0].get_title().get_text()


def test_draw_leaves_out_what_a_comparison_of_kinds_is_not_made_for(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(style, "save", lambda figure, folder, name: [folder / f"{name}.png"])
    write_kinds(tmp_path / "s", CELLS, curves(-0.3, 0.1), seeds=1)
    with caplog.at_level(logging.WARNING):
        names = {path.stem for path in draw_sweeps.draw(tmp_path / "s", None)}
    assert names == {"fig03", "fig13", "fig14", "flatness"}
    left = {line.split(" ")[0] for line in caplog.messages}
    assert {"fig02", "forest", "audit", "overlaps"} <= left and not left & {"fig01", "fig12", *names}
    with pytest.raises(OtherSweep, match="figure 1 compares"):
        draw_sweeps.FIGURES["fig01"](read_sweep(tmp_path / "s"), "fig01", draw_sweeps.Options("", None))


def test_tables_of_earlier_versions_are_read(tmp_path):
    older = tuple(name for name in columns.NETWORKS if name != "batch_norm")
    decays = tuple({"batch_norm": 0, "weight_decay": decay} for decay in (0.0, 0.1, 0.2))
    write_kinds(tmp_path / "s", decays, curves(0, 0), columns=older)
    assert "batch_norm" not in read_rows(tmp_path / "s" / "networks.csv")[0]
    sweep = read_sweep(tmp_path / "s")
    assert np.isnan(sweep.networks["batch_norm"]).all()
    assert list(flatness.compute_cells(sweep)) == [(0.0, 0.0), (0.0, 0.1), (0.0, 0.2)]  # as config.json says
