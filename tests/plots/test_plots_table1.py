"""Table 1 beside the paper's: numbers against a plain loop, failed cells, the order of cells, and its texts."""

import csv
import math

import numpy as np
import pytest
from helpers.compress_folders import by_gid, cell, expected, read_rows, write_grid, write_table
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.run_folder.tables import read_table
from margin_jax.statistics import estimates
from plots import paper, tables
from plots.compress import table1

PAPER = """convnet sgd
200 18.29 25.15 X
100 2.55 22.18 11.810
50 1.68 4.84 11.55
20 0.45 4.21 8.99
10 1.75 0.86 6.48
1 0.18 0.46 1.91
densenet adam
200 7.25 2.78 4.11
100 1.88 0.95 2.70
50 0.12 0.85 1.72
densenet sgd
200 1.54 5.99 33.31
100 0.72 3.94 3.60
50 0.11 2.38 4.08"""


def test_the_papers_table_is_as_printed():
    for line in PAPER.splitlines():
        words = line.split()
        if len(words) == 2:
            model, optimizer = words
            continue
        for rate, printed in zip((0.1, 0.01, 0.001), words[1:]):
            drop = paper.table1_drop(model, optimizer, rate, int(words[0]))
            assert math.isnan(drop) if printed == "X" else drop == float(printed)
    assert paper.table1_drop("convnet", "adam", 0.1, 50) is None
    assert paper.table1_drop("convnet", "sgd", 0.2, 50) is None


@pytest.mark.parametrize("scope, model, optimizers, seeds", [
    ("after", "convnet", ("sgd",), 3), ("whole_run", "densenet", ("adam", "sgd"), 1)])
def test_table_1_holds_what_a_plain_loop_finds(tmp_path, scope, model, optimizers, seeds):
    cells = read_table(write_grid(tmp_path, seeds, scope, optimizers, model), "cells.csv")
    groups = {}
    for row in read_rows(tmp_path, "cells.csv"):
        if row["rule"] != "full":
            key = (row["optimizer"], row["learning_rate"], row["batch_size"], row["rule"], row["scope"])
            groups.setdefault(key, []).append(row)
    lines = list(csv.DictReader(table1.to_csv(table1.summaries(cells), model).splitlines()))
    assert len(lines) == len(groups)
    for line in lines:
        found = groups[line["optimizer"], line["learning_rate"], line["batch_size"], line["rule"], line["scope"]]
        good = [row for row in found if row["status"] == "finished"]
        assert (int(line["n"]), int(line["failed"])) == (len(good), len(found) - len(good))
        for column, name in (("drop", "drop"), ("drop_frozen", "drop_frozen")):
            mean, half = expected([float(row[column]) for row in good])
            for told, value in ((line[f"{name}_mean"], mean), (line[f"{name}_half"], half)):
                assert math.isnan(value) if not told else float(told) == pytest.approx(value, rel=1e-6, abs=1e-7)
        if good:
            assert float(line["updates"]) == np.mean([float(row["updates"]) for row in good])
    main = table1.build(cells, model)[0]
    assert main.headings[:3] == ["batch size", "0.1, paper", "0.1, ours"]
    mean, half = expected([float(row["drop"]) for row in groups[optimizers[0], "0.01", "100", "smallest", scope]])
    shown = f"{mean:.2f} ± {half:.2f} ({seeds})" if seeds > 1 else f"{mean:.2f} (1)"
    assert main.lines[1][0] == "100" and main.lines[1][4] == shown
    assert main.lines[1][3] == f"{paper.table1_drop(model, optimizers[0], 0.01, 100):.2f}"


def test_failed_cells_are_an_x_with_their_reason(tmp_path):
    cells = read_table(write_grid(tmp_path), "cells.csv")
    grids = table1.build(cells, "convnet")
    main, random = grids[0], next(grid for grid in grids if grid.caption.startswith("Drop by rule random"))
    assert main.lines[0][2] == "X [1]" and random.lines[0][1].endswith("(2) [1]")
    assert main.notes[-1] == ("[1] Failed, the loss is not finite in epoch 3 & later: 3 of 3 at batch size 200, "
                              "learning rate 0.1.")
    assert "1 of 3" in random.notes[-1] and "11.81" in " ".join(main.notes)
    frozen = [float(row["drop"]) for row in read_rows(tmp_path, "cells.csv") if row["rule"] == "frozen"]
    assert f"Frozen at the removal: drop {np.mean(frozen):.2f} ± {expected(frozen)[1]:.2f} (3)." in main.notes
    fig = table1.draw_figure(cells, "convnet")
    assert by_gid(fig.axes[0], "failed-smallest-after").get_xdata().size == 1
    np.testing.assert_array_equal(by_gid(fig.axes[1], "paper").get_ydata(), [0.46, 0.86, 4.21, 4.84, 22.18, 25.15])


def test_networks_that_did_not_get_to_the_removal_are_told(tmp_path):
    reason = "the data did not separate within 60 epochs"
    lost = [cell(rule, 9, "after", 0, 0, 0, status="not separated", reason=reason) for rule in ("frozen", "full")]
    write_table(tmp_path, "cells.csv", [*read_rows(write_grid(tmp_path, 2, rules=("smallest",)), "cells.csv"), *lost])
    notes = table1.build(read_table(tmp_path, "cells.csv"), "convnet")[0].notes
    assert f"Without 1 of 3 networks, which did not get to the removal: {reason}." in notes


def test_settings_without_a_full_run_or_with_several_counts(tmp_path):
    lone = {**cell("smallest", 0, "after", 35.0, 32.0, 33.0, 0.1, settings=("sgd", 0.05, 0)), "drop": ""}
    write_table(tmp_path, "cells.csv", [lone])
    grid = table1.build(read_table(tmp_path, "cells.csv"), "convnet")[0]
    assert grid.headings == ["batch size", "learning rate 0.05"] and grid.lines == [["all kept", "–"]]
    assert "too few" in grid.notes[-1] and table1.draw_figure(read_table(tmp_path, "cells.csv"), "convnet").axes
    write_table(tmp_path, "cells.csv", [{**lone, "kept": 100}])
    fewer = table1.build(read_table(tmp_path, "cells.csv"), "convnet")[0]
    assert "The paper kept 200, this grid 100." in fewer.notes
    write_table(tmp_path, "cells.csv", [lone, {**lone, "kept": 100}])
    with pytest.raises(InputError, match="one count kept, got 100, 200"):
        table1.build(read_table(tmp_path, "cells.csv"), "convnet")


def test_full_data_for_as_many_updates_stand_beside_the_rules(tmp_path):
    settings = ("sgd", 0.05, 50)
    rows = [cell(rule, seed, "after", 33.0 + drop, 33.0, 33.0, 0.1, kept=kept, settings=settings)
            for rule, kept, drop in (("smallest", 200, 3.0), ("full_updates", 50_000, -1.0)) for seed in (0, 1)]
    write_table(tmp_path, "cells.csv", rows)
    cells = read_table(tmp_path, "cells.csv")
    grids = {grid.caption.split(";")[0]: grid for grid in table1.build(cells, "convnet")}
    assert grids["Drop by rule full data, as many updates"].lines[0][1].startswith("−1.00")
    assert grids["Drop by rule smallest"].lines[0][-1].startswith("3.00")
    assert by_gid(table1.draw_figure(cells, "convnet").axes[0], "full_updates-after").get_ydata() == [-1.0]


def test_the_order_of_cells_is_spearmans():
    rng = np.random.default_rng(0)
    ours = rng.normal(size=17).round(1)  # with ties
    theirs = (ours + rng.normal(size=17)).round(1)
    found = estimates.agreement(np.append(ours, np.nan), np.append(theirs, 1.0))
    assert found.value == pytest.approx(stats.spearmanr(ours, theirs).statistic) and found.n == 17
    again = stats.bootstrap((ours, theirs), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False,
                            method="percentile", n_resamples=500, random_state=1).confidence_interval
    assert found.low == pytest.approx(again.low, abs=0.1) and found.high == pytest.approx(again.high, abs=0.1)
    assert found == estimates.agreement(ours, theirs)
    assert math.isnan(estimates.agreement(ours[:2], theirs[:2]).value)
    assert math.isnan(estimates.agreement(ours, ours * 0).value)


def test_latex_escapes_and_counts_its_columns():
    grid = tables.Grid("50% of a_b", ["x", "y & z"], [["[1]", "1 ± 2"], ["−3", "#4"]], ["a → b"])
    lines = tables.latex([grid]).splitlines()
    assert r"\caption{50\% of a\_b}" in lines and r"x & y \& z \\" in lines and r"{[}1{]} & 1 $\pm$ 2 \\" in lines
    assert r"$-$3 & \#4 \\" in lines and r"\begin{tabular}{lr}" in lines and lines[-2].endswith(r"a $\to$ b")
    assert sum(line.startswith(r"\begin") for line in lines) == sum(line.startswith(r"\end") for line in lines) == 2
    assert tables.markdown([grid]).splitlines()[2:4] == ["| x | y & z |", "| --- | ---: |"]


def test_drops_are_compared_with_what_the_cells_had_left_to_lose(tmp_path):
    """Mean loss and mean distance of each cell against its mean drop; only a whole run's cells differ in the loss."""
    found = table1.summaries(read_table(write_grid(tmp_path, 3, "whole_run"), "cells.csv"))
    main = [summary for key, summary in found.items() if key[3:] == ("smallest", "whole_run")]
    changed = {key: summary._replace(loss_start=-summary.drop.value) if summary in main else summary
               for key, summary in found.items()}
    assert table1.loss_order(changed, "smallest", "whole_run", "sgd").value == -1
    told = "Drop against the loss of the kept examples at the removal, cell by cell: "
    for scope, wanted in (("whole_run", True), ("after", False)):
        write_grid(tmp_path, 3, scope)
        notes = table1.build(read_table(tmp_path, "cells.csv"), "convnet")[0].notes
        assert any(told in note for note in notes) == wanted
