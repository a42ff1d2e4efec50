"""Figure 2: curves, counts and bins of a sweep, and the numbers beside them."""

import json
import math

import numpy as np
import pytest
from helpers.compress_folders import by_gid, expected
from helpers.sweep_folders import EXAMPLES, read_rows, told, write_sweep

from plots.style import Lacking
from plots.sweeps import audit, fig02
from plots.sweeps.read import read_sweep


def gathered(workdir, moment="separation"):
    sweep = read_sweep(workdir)
    return fig02.compute_numbers(sweep, sweep.moments[moment], audit.read_audit(workdir))


def test_figure_2_shows_curves_counts_and_bins(tmp_path):
    curves = write_sweep(tmp_path / "s", seeds=8)
    numbers = gathered(tmp_path / "s")
    fig = fig02.draw_figure(numbers, "digits")
    top, middle, bottom = fig.axes[:3]
    rows = [row for row in read_rows(tmp_path / "s" / "moments.csv") if row["moment"] == "separation"]
    ranked = sorted(rows, key=lambda row: (float(row["test_error"]), int(row["network"])))
    chosen = [ranked[round(23 * step / 6)] for step in range(7)]
    drawn = [line for line in top.lines if (line.get_gid() or "").startswith("network-")]
    assert [line.get_gid() for line in drawn] == [f"network-{row['network']}" for row in chosen]
    for line, row in zip(drawn, chosen):
        np.testing.assert_allclose(line.get_ydata(), sorted(curves[int(row["network"]), int(row["epoch"])]), rtol=1e-12)
        np.testing.assert_allclose(line.get_xdata(), (np.arange(EXAMPLES) + 1) / EXAMPLES)
    points = [(float(row["small_margin_count_pooled@0.5"]), float(row["test_error"])) for row in rows]
    np.testing.assert_allclose(middle.collections[0].get_offsets(), points)
    assert "0.5 × pooled median" in middle.get_xlabel()
    ordered = sorted(rows, key=lambda row: float(row["auc_mean"]))
    groups = [part.tolist() for part in np.array_split(np.arange(24), 10)]
    container = next(one for one in bottom.containers if one.get_label().startswith("mean of 2–3"))
    line, _, (bars,) = container
    for place, group in enumerate(groups):
        mean, half = expected([float(ordered[k]["test_error"]) for k in group])
        area = np.mean([float(ordered[k]["auc_mean"]) for k in group])
        np.testing.assert_allclose(line.get_xydata()[place], (area, mean))
        np.testing.assert_allclose(bars.get_segments()[place][:, 1], (mean - half, mean + half))
    np.testing.assert_allclose(np.sort(by_gid(bottom, "networks").get_ydata()),
                               [float(row["test_error"]) for row in ranked])
    for axes, key in ((middle, "small_margin_count_pooled@0.5"), (bottom, "auc_mean")):
        value, low, high = told(tmp_path / "s", key, "spearman")
        assert f"Spearman {value:.2f} [{low:.2f}, {high:.2f}]".replace("-", "−") in axes.get_title(loc="left")
    assert all("paper: " in axes.get_title(loc="left") for axes in (top, middle, bottom))


def test_the_numbers_of_figure_2_are_written(tmp_path):
    write_sweep(tmp_path / "s", lost=(3,))
    content = json.loads(fig02.write_numbers(gathered(tmp_path / "s", "end"), tmp_path, "fig02").read_text())
    assert (content["moment"], content["networks"], content["left_out"]) == ("end", 11, 1)
    count, area, std = content["claims"]
    assert count["measure"] == "small_margin_count_pooled@0.5" and "larger test error" in count["claim"]
    for claim in (count, area):
        value, low, high = told(tmp_path / "s", claim["measure"], "spearman", "end")
        assert (claim["spearman"], claim["low"], claim["high"]) == (value, low, high)
        assert (claim["networks"], claim["moment"]) == (11, "end")
    assert std["measure"] == "init_std" and std["low"] <= std["spearman"] <= std["high"] and std["spearman"] > 0.5
    assert sorted(n for one in content["bins"] for n in one["networks"]) == [0, 1, 2, *range(4, 12)]
    assert len(content["bins"]) == 5 and len(content["curves"]) == 7
    # One count for all networks has no order: null, not NaN, which no other reader of JSON takes.
    assert content["other_readings"]["small_margin_count_absolute@0.01"]["spearman"] is None
    assert content["paper_gamma_covers_all"] == {"small_margin_count_absolute@0.01": True,
                                                 "conv:small_margin_count_absolute@0.01": False}


def test_notes_tell_what_the_papers_gamma_says_here(tmp_path):
    write_sweep(tmp_path / "small", scale=0.1)
    notes = " ".join(fig02.make_notes(gathered(tmp_path / "small")))
    assert "γ = 0.01 covers all examples of all networks (ρ: all layers; convolutional layers)" in notes
    write_sweep(tmp_path / "large", scale=3.0, lost=(0, 5))
    notes = " ".join(fig02.make_notes(gathered(tmp_path / "large")))
    value = told(tmp_path / "large", "conv:small_margin_count_absolute@0.01", "spearman")[0]
    assert f"(ρ: convolutional layers) the count has {value:.2f}".replace("-", "−") in notes
    assert "covers" not in notes and "2 networks left out" in notes and "above 0 supports" in notes


@pytest.mark.parametrize("separated, fits", [(2, True), (1, False), (0, False)])
def test_few_separated_networks(tmp_path, separated, fits):
    write_sweep(tmp_path / "s", stds=(0.01,), seeds=4, lost=range(separated, 4))
    if not fits:
        with pytest.raises(Lacking, match=f"has {separated} of 4, expected 2 or more"):
            gathered(tmp_path / "s", "end")
        return
    numbers = gathered(tmp_path / "s", "end")
    assert len(numbers.bins) == 1 and math.isnan(numbers.spread.value) and len(numbers.curves) == 2
    fig = fig02.draw_figure(numbers, "digits")
    assert "too few networks" in fig.axes[1].get_title(loc="left")
    fig.draw_without_rendering()


def test_ties_and_undefined_measures(tmp_path):
    def change(rows):
        for row in rows:
            row.update(auc_mean=0.001 if row["network"] != 7 else None, test_error=4.0)

    write_sweep(tmp_path / "s", change=change)
    numbers = gathered(tmp_path / "s")
    assert [n for one in numbers.bins for n in one.networks] == [*range(7), *range(8, 12)] and numbers.left_out == 1
    assert list(numbers.curves) == [0, 2, 3, 5, 8, 9, 11] and math.isnan(numbers.spread.value)
    fig02.draw_figure(numbers, "digits").draw_without_rendering()


@pytest.mark.parametrize("moments, lost, main", [
    (("separation", "convergence", "end"), (), "convergence"), (("separation", "end"), (), "separation"),
    (("separation", "convergence"), range(4, 12), "separation"), (("end",), (), "end")])
def test_margin_convergence_stands_for_the_sweep_where_enough_got_there(tmp_path, moments, lost, main):
    write_sweep(tmp_path / "s", moments=moments, lost=lost)
    sweep = read_sweep(tmp_path / "s")
    assert next(iter(sweep.moments)) == main and sweep.moments[main].suffix == ""
    assert [sweep.moments[name].suffix for name in moments if name != main] == [
        f"_{name}" for name in moments if name != main]
    assert sweep.moments[main].mode == "all"
