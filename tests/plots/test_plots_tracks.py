"""Figures of one run through time: groups of margins, how early the support is known, columns of pictures."""

import itertools
import json
import logging

import numpy as np
import pytest
from helpers.run_folders import by_gid, write_run
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.run_folder.read import read_run
from plots import paper
from plots.runs import draw as draw_runs
from plots.runs import fig08, support, tracks
from plots.style import Lacking


def a_run(tmp_path, smooth=0.0, **given):
    """A run folder; `smooth` in [0, 1) mixes each epoch with the last one, so that there is something to predict."""
    write_run(tmp_path, **given)
    workdir = tmp_path / "run"
    if smooth:
        with np.load(workdir / "margins.npz") as file:
            stored = dict(file)
        stored["margins"] = (smooth * stored["margins"][-1] + (1 - smooth) * stored["margins"]).astype(np.float32)
        np.savez(workdir / "margins.npz", **stored)
    run = read_run(workdir)
    return run, run.margins.margins.astype(np.float64), run.margins.ids


def by_margin(values, ids):
    """Places from the smallest margin on, ties by id, NaN left out."""
    return [place for _, _, place in sorted((value, i, place) for place, (value, i) in enumerate(zip(values, ids))
                                            if np.isfinite(value))]


@pytest.mark.parametrize("count, epochs, separation, broken", [
    (3, 3, None, 0), (11, 4, 2, 0), (601, 12, 7, 0), (900, 5, 5, 30), (700, 230, 101, 0)])
def test_groups_are_ranked_at_the_last_epoch(tmp_path, count, epochs, separation, broken):
    run, raw, ids = a_run(tmp_path, count=count, epochs=epochs, separation=separation, broken=broken)
    found = tracks.compute_tracks(run)
    order, size = by_margin(raw[-1], ids), min(200, (count - broken) // 3)
    start = (len(order) - size) // 2
    places = {"smallest": order[:size], "middle": order[start:start + size], "largest": order[-size:]}
    assert found.epochs[-1] == epochs and found.epochs.size == min(epochs, 200) and found.examples == count
    assert separation is None or separation in found.epochs
    for name, chosen in places.items():
        assert found.ids[name].tolist() == ids[chosen].tolist()
        expected = raw[found.epochs - 1][:, chosen] / run.margins.rho[found.epochs - 1, None]
        np.testing.assert_allclose(found.margins[name], expected, rtol=1e-14)
    some = 2  # a row
    pairs = list(itertools.product(*(found.margins[name][some].tolist() for name in ("smallest", "largest"))))
    share = np.mean([(a < b) + (a == b) / 2 for a, b in pairs])
    assert tracks.in_order(found, "smallest", "largest")[some] == pytest.approx(share)
    if size > 2:
        found_rho = tracks.rank_correlation(found, "middle")
        expected = stats.spearmanr(found.margins["middle"][some], found.margins["middle"][-1]).statistic
        assert found_rho[some] == pytest.approx(expected) and found_rho[-1] == pytest.approx(1)


def test_order_with_ties_and_without_numbers():
    first = np.array([[1.0, 1.0, np.nan], [np.nan] * 3, [0.0, 1.0, 2.0]])
    second = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0], [5.0, 5.0, np.nan]])
    found = tracks.Tracks(np.arange(3), {}, {"smallest": first, "largest": second}, None, 6)
    np.testing.assert_allclose(tracks.in_order(found, "smallest", "largest"), [(0.5 + 1 + 0) / 3, np.nan, 1.0])


@pytest.mark.parametrize("separation", [None, 7])
def test_figures_7_and_16_show_the_groups(tmp_path, separation):
    found = tracks.compute_tracks(a_run(tmp_path, smooth=0.5, count=700, separation=separation)[0])
    whole, part = tracks.draw_groups(found, 40), tracks.draw_group(found, "largest", 60)
    for name in tracks.GROUPS:
        lines = next(one for one in whole.axes[0].collections if one.get_gid() == name)
        np.testing.assert_allclose([path[:, 1] for path in lines.get_segments()], found.margins[name].T)
        np.testing.assert_allclose(by_gid(whole.axes[0], f"median-{name}").get_ydata(),
                                   np.median(found.margins[name], axis=1))
    share = 100 * tracks.in_order(found, "smallest", "middle")
    np.testing.assert_allclose(by_gid(whole.axes[1], "order-middle").get_ydata(), share)
    np.testing.assert_allclose(by_gid(part.axes[1], "correlation").get_ydata(),
                               tracks.rank_correlation(found, "largest"))
    assert len(part.axes[0].collections[0].get_segments()) == 200
    marks = [[line.get_xdata()[0] for line in axes.lines if line.get_gid() == "separation"] for axes in
             (*whole.axes[:2], *part.axes[:2])]
    assert marks == ([[7]] * 4 if separation else [[]] * 4)
    assert "(paper, CIFAR-10: 40)" in whole.get_suptitle() and "(paper, CIFAR-10: 60)" in part.get_suptitle()
    content = json.loads(tracks.numbers_json(found, 40))
    assert content["percent_of_pairs_in_final_order"]["smallest below middle"] == pytest.approx(share.tolist())
    assert content["ids"]["largest"] == found.ids["largest"].tolist() and content["separation_epoch"] == separation


@pytest.mark.parametrize("count, broken", [(20, 0), (99, 0), (100, 0), (101, 0), (201, 0), (300, 40)])
def test_overlap_and_correlation_with_the_end(tmp_path, count, broken):
    run, raw, ids = a_run(tmp_path, count=count, epochs=6, separation=4, broken=broken)
    found = support.compute_prediction(run)
    assert list(found.overlaps) == [k for k in (20, 100, 200) if k <= count]
    good = np.isfinite(raw[-1])
    for row, values in enumerate(raw):
        assert found.correlation[row] == pytest.approx(stats.spearmanr(values[good], raw[-1][good]).statistic)
        for k, shares in found.overlaps.items():
            shared = set(by_margin(values, ids)[:k]) & set(by_margin(raw[-1], ids)[:k])
            assert shares[row] == pytest.approx(100 * len(shared) / k)
    content = json.loads(support.numbers_json(run, found))
    at = content["moments"]["separation"]
    assert at["epoch"] == 4 and at["overlap_percent"]["20"]["value"] == found.overlaps[20][3]
    assert at["kendall"] == pytest.approx(stats.kendalltau(raw[3][good], raw[-1][good]).statistic)
    assert at["spearman_interval"][0] < at["spearman"] < at["spearman_interval"][1]
    assert content["moments"]["50% of the way to separation"]["epoch"] == 2
    assert content["moments"]["75% of training"]["epoch"] == 4 and content["epochs"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("k, count", [(1, 1), (20, 20), (20, 240), (100, 10_000)])
def test_chance_holds_95_percent_of_random_sets(k, count):
    found = support.chance(k, count)
    shared = np.arange(k + 1)
    odds = np.array([float(stats.hypergeom.pmf(n, count, k, k)) for n in shared])
    assert odds.sum() == pytest.approx(1) and found.value == pytest.approx(100 * (odds * shared).sum() / k)
    inside = (100 * shared / k >= found.low - 1e-9) & (100 * shared / k <= found.high + 1e-9)
    assert odds[inside].sum() >= 0.95 and odds[100 * shared / k < found.low - 1e-9].sum() <= 0.025
    if k == 20 and count == 240:  # the range against draws
        rng = np.random.default_rng(0)
        drawn = np.array([(rng.permutation(count)[:k] < k).sum() for _ in range(4000)])
        assert np.quantile(drawn, (0.025, 0.975)) == pytest.approx((found.low * k / 100, found.high * k / 100))


def test_intervals_cover_what_they_estimate():
    rng, hits = np.random.default_rng(0), []
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's correlation of normal pairs with correlation 0.6
    for _ in range(300):
        first, second = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 60).T
        _, low, high, _ = support.correlation_interval(stats.spearmanr(first, second).statistic, 60)
        hits.append(low < truth < high)
    assert 0.92 < np.mean(hits) < 0.98
    _, low, high, _ = support.share_interval(50.0, 20)  # the root of the score test
    for end in (low / 100, high / 100):
        assert abs(0.5 - end) / np.sqrt(end * (1 - end) / 20) == pytest.approx(stats.norm.ppf(0.975))
    assert np.isnan(support.correlation_interval(np.nan, 60)[:3]).all()


@pytest.mark.parametrize("separation, smooth, verdict", [
    (None, 0.0, paper.OPEN), (8, 0.0, paper.REPRODUCED), (8, 0.9, paper.NOT)])
def test_the_claim_on_predictions_is_judged_half_way_to_separation(tmp_path, separation, smooth, verdict):
    run, *_ = a_run(tmp_path, smooth=smooth, count=700, separation=separation)
    found = support.compute_prediction(run)
    early, *present = json.loads(support.numbers_json(run, found))["claims"]
    assert early["verdict"] == verdict
    for row in present:
        if separation is None:
            assert row["verdict"] == paper.OPEN
            continue
        k = int(row["claim"].split("final ")[1].split()[0])
        ours = row["ours_percent"]
        assert ours["value"] == found.overlaps[k][7]
        assert row["verdict"] == (paper.REPRODUCED if ours["low"] <= row["paper_percent"] <= ours["high"]
                                  else paper.NOT)
    fig = support.draw_figure(found, "npz")
    np.testing.assert_array_equal(by_gid(fig.axes[1], "overlap-100").get_ydata(), found.overlaps[100])
    np.testing.assert_array_equal(by_gid(fig.axes[0], "correlation").get_ydata(), found.correlation)
    bands = {patch.get_gid(): patch.get_extents().transformed(fig.axes[1].transData.inverted()).intervaly
             for patch in fig.axes[1].patches}
    assert bands["chance-200"] == pytest.approx((found.chance[200].low, found.chance[200].high))
    marks = [line.get_gid() for line in fig.axes[1].lines if (line.get_gid() or "").startswith("paper")]
    assert marks == (["paper-fig08-20", "paper-fig09-20", "paper-fig09-100"] if separation else [])


@pytest.mark.parametrize("name, count, epochs, separation", [
    ("fig08", 20, 3, None), ("fig08", 300, 12, 7), ("fig09", 100, 4, 1), ("fig09", 300, 64, 41)])
def test_columns_rank_the_final_support_at_every_epoch(tmp_path, name, count, epochs, separation):
    run, raw, ids = a_run(tmp_path, smooth=0.6, count=count, epochs=epochs, separation=separation, channels=3)
    found, k = fig08.compute_columns(run, name), fig08.COUNTS[name]
    final = by_margin(raw[-1], ids)[:k]
    assert found.ids.tolist() == ids[final].tolist()
    places = np.array([[final.index(place) if place in final else -1 for place in by_margin(values, ids)[:k]]
                       for values in raw])
    np.testing.assert_array_equal(found.places, places)
    assert found.rows.size == min(epochs, 30) and (separation is None or separation in found.epochs[found.rows])
    content = json.loads(fig08.numbers_json(found))
    assert content["ids_present_by_rank"] == [ids[[final[p] for p in row if p >= 0]].tolist() for row in places]
    present = [100 * (row >= 0).mean() for row in places]
    assert content["percent_present"] == pytest.approx(present)
    assert content["percent_present_at_separation"] == (present[separation - 1] if separation else None)
    assert content["verdict"] in ((paper.OPEN,) if separation is None else (paper.NOT, paper.REPRODUCED))
    fig = fig08.draw_with_pictures(run, found)
    shown, drawn = np.asarray(fig.axes[0].images[0].get_array()), places[found.rows]
    high, wide = shown.shape[0] // k, shown.shape[1] // found.rows.size
    pixels = np.load(tmp_path / "data.npz")["train_images"][final] / 16
    for column, rank in {(0, 0), (found.rows.size - 1, k - 1), *zip(*np.nonzero(drawn < 0)), *zip(
            *np.nonzero(drawn >= 0))}:
        cell = shown[rank * high:(rank + 1) * high, column * wide:(column + 1) * wide]
        place = drawn[column, rank]
        picture = np.ones((6, 5, 3)) if place < 0 else pixels[place]
        np.testing.assert_allclose(cell[:6, :5], picture, atol=1e-12)
        assert (cell[6:] == 1).all() and (cell[:, 5:] == 1).all()
    frames = [patch.get_x() + 0.5 for patch in fig.axes[0].patches if patch.get_gid() == "separation"]
    assert [found.epochs[found.rows][int(x)] for x in frames] == ([separation] if separation else [])
    test = by_gid(fig.axes[1], "test")
    np.testing.assert_allclose(np.interp(test.get_xdata(), np.arange(found.rows.size), found.epochs[found.rows]),
                               run.metrics["epoch"])
    grid = np.asarray(fig08.draw_with_ranks(run, found).axes[0].images[0].get_array())
    np.testing.assert_array_equal((grid == 1).all(axis=-1), (drawn < 0).T)


def test_what_the_config_names_is_drawn_and_what_cannot_be_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(draw_runs, "FIGURES", {"errors": draw_runs.FIGURES["errors"]})  # saving takes the time
    run, *_ = a_run(tmp_path, count=60, epochs=3, separation=2, channels=1)
    path = run.workdir / "config.json"
    described = json.loads(path.read_text())
    described["config"]["figures"] = ["fig08", "fig18", "fig09_ids"]
    path.write_text(json.dumps(described))
    with caplog.at_level(logging.WARNING):
        names = {path.name for path in draw_runs.draw(run.workdir)}
    drawn = {f"{name}.{kind}" for name in ("errors", "fig08", "fig18") for kind in ("png", "pdf")}
    assert names == drawn | {"fig08.json"}
    assert "fig09_ids is left out: figure 9 shows the 100 smallest" in caplog.text
    with pytest.raises(Lacking, match="100 smallest"):
        fig08.compute_columns(run, "fig09")
    with pytest.raises(InputError, match="fig09_ids: figure 9 .*60 are finite.*drawn without it: .*errors"):
        draw_runs.draw(run.workdir, ["fig09_ids", "errors"])
    for call in (lambda: draw_runs.check(["fig08_id"]), lambda: draw_runs.draw(run.workdir, ["fig08_id"])):
        with pytest.raises(InputError, match="'fig08_id'; nearest is 'fig08_ids'"):
            call()


@pytest.mark.parametrize("given, message", [
    ({"epochs": 2}, "3 epochs or more, got 2; .*margins_every"), ({"removal": (5, 60)}, "left some out"),
    ({"broken": 300}, "of which 0 are finite")])
def test_runs_that_show_no_course_are_told_apart(tmp_path, given, message):
    run, *_ = a_run(tmp_path, **given)
    for gather in (tracks.compute_tracks, lambda run: fig08.compute_columns(run, "fig08")):
        with pytest.raises(Lacking, match=message):
            gather(run)


def test_a_run_of_few_examples_has_no_support_to_follow(tmp_path):
    with pytest.raises(Lacking, match="has 19 training examples"):
        support.compute_prediction(a_run(tmp_path, count=19)[0])
