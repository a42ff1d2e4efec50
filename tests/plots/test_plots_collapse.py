"""The figure of neural collapse and the tables of appendix B show what the tables of the run hold."""

import json

import numpy as np
import pytest
from helpers.run_folders import write_run
from helpers.sweep_folders import write_csv

from margin_jax.errors import InputError
from margin_jax.run_folder.tables import COLLAPSE, DELETION, read_table
from plots.runs import collapse
from plots.runs import draw as draw_runs
from plots.stability import appendix_b


def rows_of(epochs):
    rng = np.random.default_rng(len(epochs))
    return [{name: rng.uniform(0.1, 0.9) for name in COLLAPSE} | {"epoch": epoch, "nc1": 10.0 ** -k, "nc1_test": 0.5}
            for k, epoch in enumerate(epochs)]


@pytest.mark.parametrize("classes, epochs, separation", [(2, (4,), None), (10, (2, 4, 7, 12), 7)])
def test_the_figure_of_collapse_shows_its_table(tmp_path, classes, epochs, separation):
    write_run(tmp_path, classes, 12, separation=separation)
    rows = rows_of(epochs)
    write_csv(tmp_path / "run" / "collapse.csv", COLLAPSE, rows)
    paths = draw_runs.draw(tmp_path / "run", ["collapse"])
    assert [path.name for path in paths] == ["collapse.png", "collapse.pdf", "collapse.json"]
    fig = collapse.draw_run(draw_runs.read_run(tmp_path / "run"))
    assert fig.axes[0].get_yscale() == "log"
    lines = {line.get_gid(): line for axes in fig.axes for line in axes.lines}
    absent = {"nc2_norms", "nc2_angles"} if classes == 2 else set()
    assert set(lines) == set(COLLAPSE[1:]) - absent | ({"separation"} if separation else set())
    for name in set(COLLAPSE[1:]) - absent:
        factor = 100 if name.startswith("nc4") else 1
        assert lines[name].get_xdata().tolist() == list(epochs)
        np.testing.assert_allclose(lines[name].get_ydata(), [factor * row[name] for row in rows])
    numbers = json.loads(paths[2].read_text())
    assert (numbers["first"], numbers["last"]) == (rows[0], rows[-1])
    assert numbers["at_separation"] == (rows[epochs.index(separation)] if separation else None)
    assert bool(numbers["notes"]) == (classes == 2)


def test_a_run_without_the_table_says_how_to_get_one_and_draws_the_others_unasked(tmp_path, monkeypatch):
    write_run(tmp_path)
    monkeypatch.setattr(draw_runs, "FIGURES", {name: draw_runs.FIGURES[name] for name in ("errors", "collapse")})
    assert {path.stem for path in draw_runs.draw(tmp_path / "run")} == {"errors"}
    with pytest.raises(InputError, match="record.collapse_every"):
        draw_runs.draw(tmp_path / "run", ["collapse"])
    write_csv(tmp_path / "run" / "collapse.csv", COLLAPSE, rows_of((1,)))
    assert {path.stem for path in draw_runs.draw(tmp_path / "run")} == {"errors", "collapse"}


def deletion_rows(change):
    """Three draws; `change` gives that of (choice, removed)."""
    rows = []
    for equation, layers, minima in ((5, ("conv/kernel", "dense/kernel"), ("separated",)),
                                     (4, ("least squares",), ("interpolating", "not interpolating"))):
        for minimum in minima:
            for removed in (0, 1, 20):
                for choice in ("smallest", "largest", "random") if removed else ("none",):
                    for draw in range(3 if choice == "random" else 1):
                        value = change(choice, removed) * (1 + 0.01 * draw)
                        zero = minimum == "interpolating" or not removed
                        rows += [{"equation": equation, "layer": layer, "minimum": minimum, "choice": choice,
                                  "draw": draw, "removed": removed, "examples": 1000 - removed, "residual": 0.5,
                                  "relative": 1e-15 if equation == 4 and zero else 0.25, "change": value,
                                  "weight": "" if minimum == "interpolating" else value} for layer in layers]
    return rows


def test_appendix_b_as_markdown(tmp_path):
    sizes = {"none": 0, "smallest": 0.4, "largest": 1e-7, "random": 0.01}
    write_csv(tmp_path / "deletion.csv", DELETION, deletion_rows(lambda choice, removed: sizes[choice] * removed))
    text = appendix_b.write_tables(tmp_path, tmp_path / "figures", "appendix_b").read_text()
    assert (tmp_path / "figures" / "appendix_b.md").is_file() and text.count(": reproduced.") == 3
    lines = [line.split(" | ") for line in text.splitlines()]
    moved = next(line for line in lines if line[0] == "| random, 20")
    assert moved[1] == "0.202 [0.2, 0.204]"
    assert ["| smallest margins, 20", "8", "8 |"] in lines and ["| none", "0.25", "0.25 |"] in lines
    assert ["| interpolating", "largest margins", "20", "980", "0.5", "1e−15", "2e−06", "– |"] in lines
    assert "3 draws" in text


@pytest.mark.parametrize("smallest, said", [(0.001, "not reproduced"), (0.05, "open, in 2 of 4 pairs")])
def test_claims_are_judged_by_every_layer_and_number(tmp_path, smallest, said):
    sizes = {"none": 0, "smallest": smallest, "largest": 1e-7, "random": 0.01}
    write_csv(tmp_path / "deletion.csv", DELETION, deletion_rows(
        lambda choice, removed: sizes[choice] * (removed if choice == "random" else 1)))
    found = appendix_b.verdicts(read_table(tmp_path, "deletion.csv"))
    assert [verdict[:len(said)] for verdict in found.values()] == ["reproduced", "reproduced", said]


def test_appendix_b_needs_its_table(tmp_path):
    with pytest.raises(InputError, match="launch/stability.py"):
        appendix_b.write_tables(tmp_path, tmp_path / "figures", "appendix_b")
