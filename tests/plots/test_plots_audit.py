"""The audit as forest plot and table."""

import math

import numpy as np
import pytest
from helpers.compress_folders import by_gid
from helpers.sweep_folders import MEASURES, told, write_sweep

from margin_jax.statistics.estimates import UNDEFINED, Estimate
from margin_jax.theory import measures
from plots import style
from plots.style import Lacking
from plots.sweeps import audit
from plots.sweeps.read import read_sweep


def test_every_measure_has_a_name_and_a_kind():
    for key in measures.MEASURES:
        gamma = "@0.5" if key.rpartition("_")[2] in ("absolute", "pooled", "own") else ""
        name = audit.parse(key + gamma)
        assert name.kind in audit.KINDS and "_" not in name.label
    labels = [audit.parse(key).label for key in measures.MEASURES]
    assert len(set(labels)) == len(labels)
    name = audit.parse("conv:auc_ramp_own@0.5")
    assert name == ("AUC ramp, γ 0.5 own", audit.AREA, "conv", "auc_ramp_own", 0.5)
    assert audit.parse("new_measure").label == "new_measure"


def test_the_forest_shows_every_statistic(tmp_path):
    write_sweep(tmp_path / "s")
    found = audit.verdicts(audit.read_audit(tmp_path / "s"), "separation", "test_error")
    fig = audit.draw_forest(found, "separation", "digits")
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
    area = {audit.parse(key).label: -told(tmp_path / "s", key, "kendall")[0] for key in keys[:3]
            if "auc" in key}
    assert shown[:2] == sorted(area, key=area.get) and "path norm / margin" in shown


def test_a_page_holds_one_gamma_of_each_family_where_there_are_too_many():
    one = {"kendall": Estimate(0.1, 0.0, 0.2, 9)}
    found = {f"auc_ramp_{unit}@{gamma / 20:g}": one for unit in ("own", "absolute") for gamma in range(1, 30)}
    shown, others = audit.shown(audit.measures({**found, "auc_mean": one}))
    assert sorted(row.key for row in shown) == ["auc_mean", "auc_ramp_absolute@0.1", "auc_ramp_own@0.5"]
    assert len(others) == 56


def test_an_audit_of_nothing_is_lacking(tmp_path):
    nothing = {"auc_mean": {"kendall": UNDEFINED}}
    with pytest.raises(Lacking, match="no measure orders the networks at data separation"):
        audit.draw_forest(nothing, "separation", "digits")
    write_sweep(tmp_path / "s", seeds=1)
    with pytest.raises(Lacking, match="too few networks had separated at data separation"):
        audit.verdicts(audit.read_audit(tmp_path / "s"), "separation", "test_error")
    assert audit.verdict_text(Estimate(-0.001, math.nan, math.nan, 4)) == "0.00"


def test_the_audit_as_a_table(tmp_path):
    write_sweep(tmp_path / "s")
    sweep = read_sweep(tmp_path / "s")
    text = audit.text(sweep, sweep.moments["end"], audit.read_audit(tmp_path / "s"), "digits")
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
