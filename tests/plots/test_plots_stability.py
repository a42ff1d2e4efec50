"""Figure 11 from invented trials: what is shown is what the table says, and claims follow the intervals."""

import json

import numpy as np
import pytest
from helpers.sweep_folders import write_csv
from scipy import stats

from margin_jax.errors import InputError
from margin_jax.run_folder.tables import TRIALS
from plots.stability import draw as draw_stability
from plots.stability import fig11
from plots.stability.fig11 import QUANTITIES

CHOICES = ("smallest", "random", "largest")
CONTINUED = {"status": "finished", "test_loss": 0.3, "test_error": 6.0, "rho": 9000.0, "margin_min": 1e-4}


def invented(trials=40, size=None, choices=CHOICES, lost=()):
    """Rows of trials.csv; `size` scales the differences of each choice, `lost` has diverged (number, choice)."""
    rng, rows = np.random.default_rng(trials), []
    for number in range(trials):
        for choice in choices:
            scale = (size or {}).get(choice, 1.0)
            row = {"trial": number, "choice": choice, "out_id": 7 if choice == "smallest" else number, "in_id": number,
                   "status": "finished"} | {name: scale * rng.normal() / 1000 for name in QUANTITIES}
            row["d_output"] = abs(row["d_output"])
            if (number, choice) in lost:
                row = {key: row[key] for key in ("trial", "choice", "out_id", "in_id")} | {"status": "diverged"}
            rows.append(row)
    return rows


def folder_of(path, rows):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"job": "stability", "config": {
        "data": {"name": "cifar2"}, "stability": {"epochs": 5}}}))
    (path / "continued.json").write_text(json.dumps(CONTINUED))
    write_csv(path / "trials.csv", TRIALS, rows)
    return path


def numbers_of(path, rows):
    return fig11.compute_numbers(draw_stability.read_table(folder_of(path, rows), "trials.csv"), CONTINUED)


def test_points_of_the_figure_are_means_over_trials(tmp_path):
    rows = invented(lost={(3, "random"), (5, "random")})
    numbers = numbers_of(tmp_path / "run", rows)
    figure = fig11.draw_figure(numbers, 5, "CIFAR-2")
    assert numbers.trials == {"smallest": 40, "random": 38, "largest": 40} and numbers.diverged["random"] == 2
    assert numbers.points == {"smallest": 1, "random": 40, "largest": 40}
    for axes, name in zip(figure.axes, QUANTITIES, strict=True):
        shown = {line.get_gid(): line.get_xdata()[0] for line in axes.lines if line.get_gid()}
        scale = 10.0 ** -4  # what is left out of numbers of about 0.001
        for choice in CHOICES:
            values = np.array([row[name] for row in rows if row["choice"] == choice and name in row])
            np.testing.assert_allclose(shown[choice], np.abs(values).mean() / scale)
            np.testing.assert_allclose(shown[f"{choice}-median"], np.median(np.abs(values)) / scale)
            if name != "d_output":
                np.testing.assert_allclose(shown[f"{choice}-signed"], values.mean() / scale)
        assert ("claim open" in axes.get_title()) == (name in ("d_test_loss", "d_rho"))
    assert "2 diverged" in figure.axes[0].get_yticklabels()[1].get_text()


def test_intervals_agree_with_student_s_t_over_pairs_of_trials(tmp_path):
    rows = invented(trials=400, size={"smallest": 1.2})
    numbers = numbers_of(tmp_path / "run", rows)
    values = {choice: np.abs([row["d_rho"] for row in rows if row["choice"] == choice]) for choice in CHOICES}

    def close(mean, sample):
        low, high = stats.t.interval(0.95, sample.size - 1, sample.mean(), stats.sem(sample))
        np.testing.assert_allclose([mean.low, mean.high], [low, high], atol=0.08 * (high - low))

    close(numbers.sizes["d_rho"]["smallest"], values["smallest"])
    close(numbers.more["d_rho"]["random"], values["smallest"] - values["random"])
    close(numbers.larger["d_rho"]["random"], (values["smallest"] > values["random"]).astype(float))
    np.testing.assert_allclose(numbers.ratio["d_rho"]["largest"].value,
                               values["smallest"].mean() / values["largest"].mean())


@pytest.mark.parametrize("size,trials,verdict", [(9.0, 40, "reproduced"), (0.1, 40, "not reproduced"),
                                                 (1.0, 40, "open"), (9.0, 19, "open"), (9.0, 20, "reproduced")])
def test_claims_follow_the_interval_of_the_difference(tmp_path, size, trials, verdict):
    numbers = numbers_of(tmp_path / "run", invented(trials, {"smallest": size}))
    content = json.loads(fig11.write_numbers(numbers, tmp_path, "fig11").read_text())
    assert content["claim"] == verdict and {one["verdict"] for one in content["claims"]} == {verdict}
    difference = content["claims"][0]["smallest_less_this"]
    mean = {choice: content["quantities"]["d_test_loss"][choice]["mean_absolute"]["value"] for choice in CHOICES}
    np.testing.assert_allclose(difference["value"], mean["smallest"] - mean["random"])
    assert content["continued"]["rho"] == 9000.0


def test_one_claim_that_fails_fails_both(tmp_path):
    rows = invented(size={"smallest": 9.0})
    for row in rows:
        row["d_rho"] *= 1e-3 if row["choice"] == "smallest" else 1
    numbers = numbers_of(tmp_path / "run", rows)
    assert fig11.verdicts(numbers) == {"d_test_loss": "reproduced", "d_rho": "not reproduced"}


@pytest.mark.parametrize("choices", [("smallest",), ("random", "largest"), ("largest",)])
def test_other_choices_are_shown_without_a_claim(tmp_path, choices):
    numbers = numbers_of(tmp_path / "run", invented(trials=1, choices=choices))
    figure = fig11.draw_figure(numbers, 1, "digits")
    assert not any("claim" in axes.get_title() for axes in figure.axes)
    assert len(figure.axes[0].get_yticks()) == len(choices)
    content = json.loads(fig11.write_numbers(numbers, tmp_path, "fig11").read_text())
    assert content["claim"] == "open" and list(content["trials"]) == list(choices)
    assert all("low" not in one for one in content["claims"])


def test_what_cannot_be_drawn_is_explained(tmp_path, caplog):
    path = folder_of(tmp_path / "run", invented(3))
    with pytest.raises(InputError, match="no figure 'fig12'; nearest is 'fig11' of fig11, appendix_b"):
        draw_stability.draw(path, ["fig12"])
    with pytest.raises(InputError, match="appendix_b: .*no deletion.csv"):
        draw_stability.draw(path, ["appendix_b"])
    assert [one.name for one in draw_stability.draw(path)] == ["fig11.png", "fig11.pdf", "fig11.json"]
    assert "appendix_b is left out" in caplog.text
