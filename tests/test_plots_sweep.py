"""Figures of a sweep show what its work folder holds."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compress_tables import by_gid, expected
from sweep_tables import EXAMPLES, MEASURES, read_rows, smallest, write_sweep

from margin_jax import measures
from margin_jax.errors import InputError
from plots import (audit_table, fig02, fig02_notes, fig02_numbers, fig06, fig06_pair, fig06_pictures, forest, judged,
                   measure_names, overlaps, style, sweep_figures, verdicts)
from plots.sweep_folder import Lacking, read_sweep

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Pictures of fewer points take a fraction of the time, and no test looks at them."""
    monkeypatch.setitem(style.RC, "savefig.dpi", 40)


def gathered(workdir, moment="separation"):
    sweep = read_sweep(workdir)
    return fig02_numbers.gather(sweep, sweep.moments[moment], verdicts.read_audit(workdir))


def told(workdir, measure, statistic, moment="separation", target="test_error"):
    wanted = {"measure": measure, "statistic": statistic, "moment": moment, "target": target}
    row = next(row for row in read_rows(workdir / "audit.csv") if wanted.items() <= row.items())
    return [float(row[name] or "nan") for name in ("value", "low", "high")]


def test_figure_2_shows_curves_counts_and_bins(tmp_path):
    curves = write_sweep(tmp_path / "s", seeds=8)
    numbers = gathered(tmp_path / "s")
    fig = fig02.figure(numbers, "digits")
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
    content = json.loads(fig02_numbers.write_json(gathered(tmp_path / "s", "end"), tmp_path, "fig02").read_text())
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
    notes = " ".join(fig02_notes.notes(gathered(tmp_path / "small")))
    assert "γ = 0.01 covers all examples of all networks (ρ: all layers; convolutional layers)" in notes
    write_sweep(tmp_path / "large", scale=3.0, lost=(0, 5))
    notes = " ".join(fig02_notes.notes(gathered(tmp_path / "large")))
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
    fig = fig02.figure(numbers, "digits")
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
    fig02.figure(numbers, "digits").draw_without_rendering()


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


def test_every_measure_has_a_name_and_a_kind():
    for key in measures.MEASURES:
        gamma = "@0.5" if key.rpartition("_")[2] in ("absolute", "pooled", "own") else ""
        name = measure_names.parse(key + gamma)
        assert name.kind in measure_names.KINDS and "_" not in name.label
    labels = [measure_names.parse(key).label for key in measures.MEASURES]
    assert len(set(labels)) == len(labels)
    name = measure_names.parse("conv:auc_ramp_own@0.5")
    assert name == ("AUC ramp, γ 0.5 own", measure_names.AREA, "conv", "auc_ramp_own", 0.5)
    assert measure_names.parse("new_measure").label == "new_measure"


def test_the_forest_shows_every_statistic(tmp_path):
    write_sweep(tmp_path / "s")
    found = verdicts.verdicts(verdicts.read_audit(tmp_path / "s"), "separation", "test_error")
    fig = forest.figure(found, "separation", "digits")
    keys = [key for key in MEASURES if ":" not in key and "absolute" not in key]
    for axes, statistic in zip(fig.axes, ("kendall", "partial_all", "sign_error", "cmi_corrected"), strict=True):
        middle = 0.5 if statistic == "sign_error" else 0.0
        assert by_gid(axes, "nothing").get_xdata() == [middle, middle]
        points = {line.get_gid(): line for line in axes.lines if line.get_gid() not in (None, "nothing")}
        assert sorted(key for key in points if not key.startswith("_")) == sorted(keys)
        for key in keys:
            value, low, high = told(tmp_path / "s", key, statistic)
            assert points[key].get_xdata() == [value]
            side = (low > middle) - (high < middle)
            side *= -1 if statistic == "sign_error" else 1
            if statistic == "cmi_corrected":
                side *= int(np.sign(told(tmp_path / "s", key, "kendall")[0]))
            assert points[key].get_color() == {1: style.BLUE, -1: style.VERMILLION, 0: style.GREY}[side]
            spans = [line.get_xdata() for line in axes.lines if np.size(line.get_ydata()) == 2
                     and (line.get_ydata() == points[key].get_ydata()[0]).all()]
            assert any(tuple(span) == (low, high) for span in spans)
    assert "12 networks on digits" in fig.legends[0].get_title().get_text()
    note = fig.get_supxlabel()
    assert "count, γ 0.01" in note and "AUC mean" not in note
    shown = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    area = {measure_names.parse(key).label: -told(tmp_path / "s", key, "kendall")[0] for key in keys[:3]
            if "auc" in key}
    assert shown[:2] == sorted(area, key=area.get) and "path norm / margin" in shown


def test_a_page_holds_one_gamma_of_each_family_where_there_are_too_many():
    one = {"kendall": verdicts.Verdict(0.1, 0.0, 0.2, 9)}
    found = {f"auc_ramp_{unit}@{gamma / 20:g}": one for unit in ("own", "absolute") for gamma in range(1, 30)}
    shown, others = judged.shown(judged.measures({**found, "auc_mean": one}))
    assert sorted(row.key for row in shown) == ["auc_mean", "auc_ramp_absolute@0.1", "auc_ramp_own@0.5"]
    assert len(others) == 56


def test_an_audit_of_nothing_is_lacking(tmp_path):
    nothing = {"auc_mean": {"kendall": verdicts.NONE}}
    with pytest.raises(Lacking, match="no measure orders the networks at data separation"):
        forest.figure(nothing, "separation", "digits")
    write_sweep(tmp_path / "s", seeds=1)
    with pytest.raises(Lacking, match="too few networks had separated at data separation"):
        verdicts.verdicts(verdicts.read_audit(tmp_path / "s"), "separation", "test_error")
    assert verdicts.text(verdicts.Verdict(-0.001, math.nan, math.nan, 4)) == "0.00"


def test_the_audit_as_a_table(tmp_path):
    write_sweep(tmp_path / "s")
    sweep = read_sweep(tmp_path / "s")
    text = audit_table.text(sweep, sweep.moments["end"], verdicts.read_audit(tmp_path / "s"), "digits")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "`" in line]
    keys = [line[1].strip("`") for line in lines]
    assert len(keys) == 2 * 8 and not [key for key in keys if ":" in key]
    for place, target in enumerate(("test_error", "loss_gap")):
        taus = [told(tmp_path / "s", key, "kendall", "end", target)[0] for key in keys[8 * place:8 * place + 7]]
        assert taus == sorted(taus, reverse=True)
        assert keys[8 * place + 7] == "small_margin_count_absolute@0.01" and lines[8 * place + 7][2] == "–"
        for line, key in zip(lines[8 * place:8 * place + 7], keys[8 * place:]):
            for cell, statistic in zip(line[2:7], ("kendall", "spearman", "partial_all", "sign_error")):
                value, low, high = told(tmp_path / "s", key, statistic, "end", target)
                mark = (low > 0.5 * (statistic == "sign_error")) - (high < 0.5 * (statistic == "sign_error"))
                mark *= -1 if statistic == "sign_error" else 1
                text_of = f"{value:.2f} [{low:.2f}, {high:.2f}]".replace("-0.00", "0.00").replace("-", "−")
                assert cell == text_of + {1: " (+)", -1: " (−)", 0: ""}[mark]
            assert line[-1] == "12"
    assert "under other norms" in text and "| convolutional layers |" in text


def test_overlaps_of_all_pairs_by_std(tmp_path):
    curves = write_sweep(tmp_path / "s", stds=(0.05, 0.01), seeds=3, lost=(1,))
    sweep = read_sweep(tmp_path / "s")
    fig = overlaps.from_sweep(sweep, sweep.moments["end"], "digits")
    ids = np.load(tmp_path / "s" / "networks" / "000" / "mask.npz")["ids"]
    order = [3, 4, 5, 0, 1, 2]  # by std, then number
    for axes, k in zip(fig.axes[:2], (20, 200)):
        sets = [set(smallest(curves[number, 10], ids, k)) for number in order]
        image = axes.images[0].get_array()
        pairs = {same: [] for same in (True, False)}
        for i, a in enumerate(sets):
            for j, b in enumerate(sets):
                if i != j:
                    assert image[i, j] == pytest.approx(100 * len(a & b) / k, abs=1e-4)
                    pairs[i // 3 == j // 3].append(100 * len(a & b) / k)
        assert np.ma.getmaskarray(image).diagonal().all() or np.isnan(np.asarray(image).diagonal()).all()
        title = axes.get_title()
        assert f"mean {np.mean(pairs[True]):.1f}% at the same init std, else {np.mean(pairs[False]):.1f}%" in title
        assert f"chance {100 * k / EXAMPLES:.1f}%" in title
        assert by_gid(axes.child_axes[0], "chance").get_ydata()[0] == pytest.approx(100 * k / EXAMPLES)
        assert [line.get_xdata()[0] for line in axes.lines[::2]] == [2.5]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0.01", "0.05"]
    assert "1 with training error above 0" in fig.get_suptitle()
    (tmp_path / "s" / "overlap.npz").unlink()
    with pytest.raises(InputError, match="has no overlap.npz"):
        overlaps.from_sweep(sweep, sweep.moments["end"], "digits")


def test_overlaps_need_two_networks_of_this_sweep(tmp_path):
    write_sweep(tmp_path / "one", stds=(0.01,), seeds=1)
    sweep = read_sweep(tmp_path / "one")
    with pytest.raises(Lacking, match="two networks"):
        overlaps.from_sweep(sweep, sweep.moments["end"], "digits")
    np.savez(tmp_path / "one" / "overlap.npz", end_networks=np.array([4]), end_20=np.ones((1, 1)))
    with pytest.raises(InputError, match="not of one sweep"):
        overlaps.from_sweep(sweep, sweep.moments["end"], "digits")


def test_figure_6_follows_two_networks(tmp_path):
    curves = write_sweep(tmp_path / "s", lost=(0,))
    sweep = read_sweep(tmp_path / "s")
    pair = fig06_pair.read_pair(sweep)
    assert pair.numbers == (1, 2) and pair.epochs.tolist() == [2, 4, 6, 8, 10]
    ids = pair.runs[0].margins.ids
    fig = fig06.figure(pair, "digits")
    top, bottom = fig.axes
    for k in (20, 200):
        shared = [100 * len(set(smallest(curves[1, e], ids, k)) & set(smallest(curves[2, e], ids, k))) / k
                  for e in (2, 4, 6, 8, 10)]
        np.testing.assert_allclose(by_gid(bottom, f"overlap-{k}").get_ydata(), shared)
        assert by_gid(bottom, f"chance-{k}").get_ydata()[0] == pytest.approx(100 * k / EXAMPLES)
        assert pair.ends[k] == pytest.approx(shared[-1])
    np.testing.assert_array_equal(by_gid(top, "test-2").get_ydata(), pair.runs[1].metrics["test_error"])
    for axes in fig.axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "separation"] == [8, 6]
    assert "paper, 200: 60–63%" in [text.get_text() for text in bottom.get_legend().get_texts()]
    assert "3.54 and 4.65%" in top.get_title()
    content = json.loads(fig06_pair.write_json(pair, tmp_path, "fig06").read_text())
    found = [set(smallest(curves[number, 10], ids, 20)) for number in (1, 2)]
    assert [set(one["ids"]) for one in content["networks"]] == found
    assert content["shared_ids"] == sorted(found[0] & found[1]) and content["epochs"] == [2, 4, 6, 8, 10]
    panels = fig06_pictures.from_pair(pair).axes
    framed = [int(axes.texts[0].get_text().split("\n")[0].removeprefix("id ")) for axes in panels
              if any(patch.get_gid() == "shared" for patch in axes.patches)]
    assert sorted(framed) == sorted(2 * sorted(found[0] & found[1])) and len(panels) == 40


def test_figure_6_says_what_it_needs(tmp_path):
    write_sweep(tmp_path / "few", kept=())
    with pytest.raises(Lacking, match="3 epochs or more, got 1; .*record.margins_every"):
        fig06_pair.read_pair(read_sweep(tmp_path / "few"))
    write_sweep(tmp_path / "alone", seeds=1)
    sweep = read_sweep(tmp_path / "alone")
    with pytest.raises(Lacking, match="no two alike; set sweep.seeds_per_std"):
        fig06_pair.read_pair(sweep)
    assert "init std 0.01 and 0.05" in fig06.figure(fig06_pair.read_pair(sweep, (0, 2)), "digits").get_suptitle()
    for numbers in ((0, 0), (0, 3)):
        with pytest.raises(InputError, match="two different networks of 0 to 2"):
            fig06_pair.read_pair(sweep, numbers)


def test_draw_adds_its_files_and_touches_nothing_else(tmp_path):
    workdir = tmp_path / "s"
    write_sweep(workdir, moments=("separation",))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    paths = sweep_figures.draw(workdir)
    assert sorted(path.name for path in paths) == sorted(
        ["audit.md", "fig02.json", "fig06.json", *(f"{name}.{kind}" for name in sweep_figures.FIGURES if name != "audit"
                                                   for kind in ("png", "pdf"))])
    assert {p for p in tmp_path.rglob("*.*") if p.is_file()} == set(before) | set(paths)
    assert before == {path: path.read_bytes() for path in before}


def test_what_a_sweep_is_not_made_for_is_left_out_with_a_line(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(style, "save", lambda figure, folder, name: [folder / f"{name}.png"])
    write_sweep(tmp_path / "s", stds=(0.01, 0.02, 0.03), seeds=1, moments=("separation", "end"), lost=(2,))
    with caplog.at_level(logging.WARNING):
        names = {path.stem for path in sweep_figures.draw(tmp_path / "s")}
    assert names == {"fig02", "fig02_end", "overlaps", "overlaps_end"}
    for name in ("forest", "audit", "fig06", "fig06_pictures"):
        assert [line for line in caplog.messages if line.startswith(f"{name} is left out: ")]
        with pytest.raises(InputError, match=f"^{name}: "):
            sweep_figures.draw(tmp_path / "s", [name])
    write_sweep(tmp_path / "none", seeds=1, lost=range(3))
    with pytest.raises(InputError, match="fig02: .* has 0 of 3"):
        sweep_figures.draw(tmp_path / "none", ["fig02"])


def test_mistakes_are_explained(tmp_path):
    workdir = tmp_path / "s"
    write_sweep(workdir)
    with pytest.raises(InputError, match="no figure 'fig2'; nearest is 'fig02'"):
        sweep_figures.draw(workdir, ["fig2"])
    (workdir / "audit.csv").unlink()
    for names in (None, ["forest"], ["fig02"]):
        with pytest.raises(InputError, match="has no audit.csv"):
            sweep_figures.draw(workdir, names)
    (workdir / "networks" / "000" / "margins.npz").unlink()
    with pytest.raises(InputError, match="overlap|recorded"):
        sweep_figures.draw(workdir, ["fig06"])
    (workdir / "networks.csv").unlink()
    with pytest.raises(InputError, match="no networks.csv, which a sweep writes when all networks are trained"):
        sweep_figures.draw(workdir)


def test_script_needs_no_jax_and_takes_two_networks(tmp_path):
    write_sweep(tmp_path / "s")
    code = ("import sys; from plots.sweep_figures import draw; draw(sys.argv[1], ['audit']); "
            "print({'jax', 'flax', 'optax', 'matplotlib.pyplot'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    command = [sys.executable, str(ROOT / "launch" / "plot.py"), f"--workdir={tmp_path / 's'}", "--figures=fig06"]
    for numbers, code, message in (("4,6", 0, "fig06.png"), ("4", 2, "two networks of a sweep")):
        done = subprocess.run([*command, f"--networks={numbers}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code and message in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [one["network"] for one in json.loads((tmp_path / "s" / "figures" / "fig06.json").read_text())[
        "networks"]] == [4, 6]
