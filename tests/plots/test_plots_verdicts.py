"""Verdicts: the page shows what the command computes, and evidence from the tables equals SciPy's."""

import csv
import itertools
import json
import math
import pathlib
import re

import numpy as np
import pytest
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.statistics import verdicts
from plots import paper
from plots.verdicts import audits, evidence, table

RESULTS = pathlib.Path(__file__).resolve().parent.parent.parent / "results"


@pytest.fixture(scope="module")
def judged():
    return table.judge(RESULTS, table.read_claims(RESULTS / "verdicts" / "claims.json"))


def rows_of(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_and_the_files_show_what_the_command_computes(judged, tmp_path):
    assert table.markdown(judged) in (RESULTS / "README.md").read_text(encoding="utf-8")
    (tmp_path / "verdicts").mkdir()
    for path in table.write(tmp_path, judged):
        assert path.read_text(encoding="utf-8") == (RESULTS / "verdicts" / path.name).read_text(encoding="utf-8")


def test_every_verdict_of_the_page_is_one_of_the_rules_words(judged):
    assert {row.judgement.verdict for row in judged} <= set(verdicts.WORDS)
    assert len(judged) > 200
    words = re.findall(r"\| \*\*([a-z ]+)\*\*", table.markdown(judged))
    assert len(words) == sum(not row.claim.get("detail") for row in judged)


def test_numbers_of_another_setting_are_never_judged(judged):
    others = [row for row in judged if row.claim["kind"] == "number" and row.claim["setting"] != "paper"]
    assert len(others) > 40 and {row.judgement.verdict for row in others} <= {"open", "not testable"}


def test_claims_of_random_labels_drawn_once_are_open(judged):
    labels = [row for row in judged if row.claim["figure"] in ("fig. 1", "fig. 12", "C.3")]
    once = [row for row in labels if "open" in row.claim]
    assert {row.claim["folder"] for row in once} == {"fig01_cifar10_full"}
    assert {row.judgement.verdict for row in once} <= {"open", "not testable"}
    assert {row.evidence.estimate.n for row in labels if row not in once and row.claim["kind"] == "order"} == {5}


def test_a_claim_on_all_ranks_is_judged_at_the_rank_that_shows_it_least(judged):
    rows = {row.claim["folder"]: row for row in judged if row.claim["id"].startswith("fig01.ranks")}
    for folder in ("fig01", "fig01_cifar10"):
        claim = json.loads((RESULTS / folder / "figures" / "fig01.json").read_text())["claims"][0]
        assert rows[folder].judgement.verdict == ("reproduced" if claim["share_of_ranks_above"] == 1 else "open")


def test_the_papers_numbers_of_claims_are_those_of_the_figures(judged):
    numbers = {row.claim["id"]: row.claim.get("number") for row in judged}
    assert numbers["fig06.pair"] == list(paper.FIG06_OVERLAP)
    assert numbers["fig06.errors.sweep100"] == list(paper.FIG06_ERRORS)
    assert (numbers["fig01.first_bin.natural.fig01"], numbers["fig01.first_bin.random.fig01"]) == paper.FIG01_FIRST_BIN
    assert numbers["fig05.batch50"] == paper.IMMEDIATE_DROP["convnet"][200]
    assert numbers["fig10"] == paper.IMMEDIATE_DROP["densenet"][200]
    assert numbers["fig08.20.55.fig07"] == paper.SUPPORT_PRESENT["fig08"][20]
    assert {20: numbers["fig09.20.85.fig07"], 100: numbers["fig09.100.40.fig07"]} == paper.SUPPORT_PRESENT["fig09"]
    for rate, batch in itertools.product((0.1, 0.01, 0.001), (200, 100, 50, 20, 10, 1)):
        stated = paper.table1_drop("convnet", "sgd", rate, batch)
        assert math.isnan(stated) or numbers[f"table1.drops.table1/{rate:g}/{batch}"] == stated


def test_the_table_of_margins_in_the_rule_is_the_codes():
    rule = (RESULTS.parent / "docs" / "verdicts.md").read_text(encoding="utf-8")
    for quantity, words in (("test error", "test error | 1 point"), ("points", "drop, rise of a test error | 2 points"),
                            ("share", "share of examples | 10 points"), ("correlation", "rank correlation | 0.2")):
        assert f"| {words} |" in rule and f" {table.MARGINS[quantity]:g} " in f" {words} "
    assert "| ratio | 0.80 to 1.25 times |" in rule and table.RATIO == (0.8, 1.25)
    assert "| count among the 100 smallest | 5 |" in rule and table.MARGINS["count"] == 5


def test_correlations_are_scipys_and_draw_networks_from_all():
    rows = [row for row in rows_of(RESULTS / "sweep20_bn" / "moments.csv") if row["moment"] == "end"]
    area, error = (np.array([float(row[name]) for row in rows]) for name in ("auc_mean", "test_error"))
    ours = evidence.correlation(RESULTS / "sweep20_bn", "end", "auc_mean", -1)
    assert ours.estimate.value == pytest.approx(-stats.spearmanr(area, error).statistic) and ours.estimate.n == 20
    rng = np.random.default_rng(5)
    draws = [-stats.spearmanr(area[pick], error[pick]).statistic for pick in rng.integers(0, 20, (1500, 20))]
    assert ours.estimate[1:3] == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.05)


def test_drops_differences_and_orders_of_cells_are_scipys():
    folder = RESULTS / "table1"
    drops = {(row["seed"], row["rule"], float(row["learning_rate"]), float(row["batch_size"])): float(row["drop"])
             for row in rows_of(folder / "cells.csv") if row["scope"] == "after"}
    values = {rule: np.array([drops[seed, rule, 0.01, 50.0] for seed in "012"]) for rule in ("smallest", "random")}
    ours = evidence.cell_drop(folder, "after", "smallest", [0.01, 50]).estimate
    assert ours[1:3] == pytest.approx(stats.ttest_1samp(values["smallest"], 0).confidence_interval())
    ours = evidence.cell_difference(folder, "after", "smallest", "random", [0.01, 50])
    assert ours.p_value(0) == pytest.approx(stats.ttest_rel(values["smallest"], values["random"]).pvalue)

    cells = sorted({key[2:] for key in drops if key[1] == "smallest"})
    means = [np.mean([drops[seed, "smallest", *cell] - drops[seed, "random", *cell] for cell in cells])
             for seed in "012"]
    ours = evidence.mean_difference(folder, "after", "smallest", "random")
    assert ours.p_value(0) == pytest.approx(stats.ttest_1samp(means, 0).pvalue)

    stated = [paper.table1_drop("convnet", "sgd", rate, int(batch)) for rate, batch in cells]
    by_seed = [stats.spearmanr(stated, [drops[seed, "smallest", *cell] for cell in cells], nan_policy="omit").statistic
               for seed in "012"]
    ours = evidence.cell_order(folder, "after")
    assert ours.estimate.value == pytest.approx(np.tanh(np.mean(np.arctanh(by_seed)))) and ours.estimate.n == 3
    assert ours.p_value(0) == pytest.approx(stats.ttest_1samp(np.arctanh(by_seed), 0).pvalue)


def test_cells_without_a_separated_network_are_not_reached():
    folder = RESULTS / "table1_whole_run_cifar2"
    with pytest.raises(evidence.NotReached, match="no network separates"):
        evidence.cell_drop(folder, "whole_run", "smallest", [0.1, 1])
    assert evidence.cell_drop(folder, "whole_run", "smallest", [0.1, 10]).estimate.n == 2
    cells = evidence.cells_of(folder, "whole_run")
    assert len(cells) == 15 and cells[0] == (0.1, 200) and (0.1, 1) not in cells


def test_rises_shares_overlaps_and_labels_by_hand():
    rise = evidence.rise(RESULTS / "fig04_cifar2", 100, 0.01).estimate
    assert [round(number, 2) for number in rise[:3]] == [-0.03, -0.29, 0.23]  # as the page before this rule had it
    hits = evidence.support_hits(RESULTS / "fig08", "separation", 20)
    np.testing.assert_array_equal(hits, [4, 4, 4])
    share = evidence.support_share(RESULTS / "fig08", "separation", 20).estimate
    wilson = stats.binomtest(12, 60).proportion_ci(method="wilson")
    assert share[:3] == pytest.approx((20, 100 * wilson.low, 100 * wilson.high))

    stored = np.load(RESULTS / "sweep40_candidate" / "overlap.npz")["convergence_200"]
    pairs = [stored[i, j] for i, j in itertools.combinations(range(5), 2)]  # networks 0 to 4 have std 0.01
    ours = evidence.network_overlap(RESULTS / "sweep40_candidate", "convergence", 200, 0.01).estimate
    assert ours.value == pytest.approx(100 * np.mean(pairs)) and ours.n == 5 and ours.low < ours.value < ours.high

    rows = [row for row in rows_of(RESULTS / "fig01" / "moments.csv") if row["moment"] == "convergence"]
    raw = {(row["seed"], row["random_fraction"]): float(row["margin_min"]) * float(row["rho"]) for row in rows}
    ours = evidence.labels(RESULTS / "fig01", "convergence", "margin_min", times="rho").estimate
    assert ours.value == pytest.approx(np.mean([raw[seed, "0.0"] - raw[seed, "1.0"] for seed in "01234"]))
    assert ours.value < 0  # without a norm random labels have the larger smallest margin
    with pytest.raises(evidence.NotReached):
        evidence.labels(RESULTS / "fig01_cifar10_full", "separation", "separation_epoch")


def test_flatness_is_judged_by_logarithms_and_told_as_ratios():
    content = json.loads((RESULTS / "regularisation" / "figures" / "flatness.json").read_text(encoding="utf-8"))
    row = content["claims"][0]["measures"]["cv"]["ln_end_over_separation_less_that_with_both"]["no BatchNorm, no L2"]
    ours = evidence.flattening_over(RESULTS / "regularisation", "no BatchNorm, no L2")
    assert ours.estimate == pytest.approx((*(math.exp(-row[end]) for end in ("mean", "high", "low")), 3))
    t = row["mean"] / ((row["high"] - row["low"]) / 2 / stats.t.ppf(0.975, 2))
    assert ours.p_value(1) == pytest.approx(2 * stats.t.sf(t, 2))


def claim(name, **changes):
    return {"id": name, "figure": "fig. 0", "claim": name, "kind": "order", "quantity": "points", "folder": "table1",
            "estimate": {"from": "cell_drop", "scope": "after", "rule": "smallest", "cell": [0.01, 50]},
            "setting": "paper", "data": "CIFAR-10", "unit": "seed"} | changes


def words(claims):
    return {row.claim["id"]: (row.judgement.verdict, row.reason) for row in table.judge(RESULTS, claims)}


def test_settings_chance_and_moments_stand_above_numbers():
    never = {"from": "flattening", "batch_norm": True, "weight_decay": 0.005}
    found = words([
        claim("order"), claim("number", kind="number", number=20), claim("far", kind="number", number=2.89),
        claim("elsewhere", kind="number", number=2.89, setting="CIFAR-2"), claim("order elsewhere", setting="CIFAR-2"),
        claim("once", open="one draw"), claim("unreached", folder="regularisation", estimate=never, quantity="ratio"),
        claim("absent", estimate={"from": "nothing"}), claim("below", below=0)])
    assert found["order"] == found["order elsewhere"] == ("reproduced", "")
    assert found["number"] == ("compatible", "") and found["far"] == ("contradicted", "")
    assert found["elsewhere"] == ("open", "CIFAR-2, not the setting of the number; else contradicted")
    assert found["once"] == ("open", "one draw; else reproduced") and found["below"] == ("contradicted", "")
    assert found["unreached"][0] == "not testable" and found["absent"] == ("open", "not run")


def test_mathematics_is_checked():
    holds = {"from": "deletion", "equation": 4, "minimum": "interpolating"}
    fails = holds | {"minimum": "not interpolating"}
    found = words([claim(name, kind="mathematics", folder="appendix_b", estimate=how, quantity="relative")
                   for name, how in (("holds", holds), ("fails", fails))])
    assert found == {"holds": ("reproduced", "to rounding"), "fails": ("contradicted", "beyond rounding")}


def test_a_family_and_the_cells_of_a_claim_are_corrected_together():
    how = {"from": "cell_difference", "scope": "after", "first": "smallest", "second": "random"}
    rows = table.judge(RESULTS, [claim("all", each="cells", estimate=how, family="cells")])
    assert len(rows) == 19 and rows[0].reason.endswith("of 18 cells")
    least = min((row.judgement for row in rows[1:]), key=lambda judgement: judgement.p_value)
    assert least.p_adjusted == pytest.approx(18 * least.p_value)
    assert rows[0].judgement.verdict == verdicts.together([row.judgement.verdict for row in rows[1:]])
    single = words([claim("single", estimate=how | {"cell": [0.01, 50]})])["single"]
    assert single == ("reproduced", "")  # p = 0.006 alone


def test_claims_that_name_nothing_are_refused(tmp_path):
    path = tmp_path / "claims.json"
    for bad in ([claim("a", kind="vague")], [claim("a", quantity="joy")], [claim("a", estimate={"from": "guess"})],
                [claim("a", colour="red")], [{"id": "a"}]):
        path.write_text(json.dumps(bad))
        with pytest.raises(InputError, match="claim a of"):
            table.read_claims(path)
    path.write_text(json.dumps([claim("a"), claim("a")]))
    with pytest.raises(InputError, match="twice"):
        table.read_claims(path)


def test_an_audit_is_turned_as_its_table_and_corrected_over_all_measures():
    rows = audits.family(RESULTS / "sweep20_bn", "end", "spearman", 300)
    committed = {row["measure"]: float(row["value"]) for row in rows_of(RESULTS / "sweep20_bn" / "audit.csv")
                 if (row["moment"], row["target"], row["statistic"]) == ("end", "test_error", "spearman")
                 and row["value"]}
    for row in rows:
        assert float(row["value"]) == pytest.approx(committed[row["measure"]], abs=1e-3)
    assert rows[0]["tests"] == len(rows) > 60
    assert float(rows[0]["p_adjusted"]) == pytest.approx(min(1, len(rows) * float(rows[0]["p_value"])), rel=1e-3)
