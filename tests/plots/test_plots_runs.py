"""The figures show what the run folder holds."""

import json
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from helpers.run_folders import by_gid, write_run

import margin_jax as mj
from margin_jax.errors import InputError
from margin_jax.run_folder.read import Removal, read_run
from plots import style
from plots.runs import curves, errors, gallery, read
from plots.runs import draw as draw_runs

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("classes, epochs, separation", [(2, 1, None), (2, 1, 1), (10, 12, 7), (3, 150, 100)])
def test_curves_are_the_sorted_normalised_margins(tmp_path, classes, epochs, separation):
    margins = write_run(tmp_path, classes, epochs, separation=separation)
    run = read_run(tmp_path / "run")
    whole, panels = curves.draw_run(run), curves.draw_run_per_class(run)
    drawn = [int(line.get_gid()[6:]) for line in whole.axes[0].lines if line.get_gid()]
    assert {1, epochs, separation or 1} <= set(drawn) and len(drawn) == min(epochs, 60)
    for epoch in (1, separation or 1, epochs):
        line = by_gid(whole.axes[0], f"epoch-{epoch}")
        np.testing.assert_array_equal(line.get_ydata(), sorted(margins[epoch - 1]))
        np.testing.assert_allclose(line.get_xdata(), (np.arange(300) + 1) / 300)
        for number, axes in enumerate(panels.axes[:classes]):
            expected = sorted(margins[epoch - 1][run.margins.labels == number])
            np.testing.assert_array_equal(by_gid(axes, f"epoch-{epoch}").get_ydata(), expected)
            assert axes.get_title() == f"class ${number}"
    smallest = np.lexsort((run.margins.ids, margins[-1]))[:5]
    assert by_gid(whole.axes[1], "smallest").get_ydata().tolist() == margins[-1][smallest].tolist()
    shown = [text.get_text().split("\n")[1] for text in whole.axes[1].get_xticklabels()]
    assert shown == [str(i) for i in run.margins.ids[smallest]]


def test_ranks_and_the_choice_among_many(tmp_path):
    rows = read.thin(50_000)
    assert rows.size <= 4000 and set(range(100)) | set(range(49_900, 50_000)) <= set(rows.tolist())
    assert np.diff(rows).max() < 20
    tied = np.array([2.0, 1.0, np.nan, 1.0, 2.0])
    ids = np.array([9, 8, 7, 6, 5])
    assert read.ranked_rows(tied, ids).tolist() == [3, 1, 4, 0]
    assert ids[read.ranked_rows(tied, ids)[:3]].tolist() == mj.support_set(tied, ids, 3).tolist()
    assert read.percent_shared(np.arange(100), np.arange(71, 171), 100) == 29.0
    assert read.percent_shared(np.arange(9), np.array([3, 70]), 5) == 20.0  # three places of the second have no number
    assert read.percent_shared(np.array([], int), np.array([], int), 5) == 0.0
    margins = write_run(tmp_path, classes=60, count=1200)
    run = read_run(tmp_path / "run")
    fig = curves.draw_run_per_class(run)
    medians = [np.median(margins[-1][run.margins.labels == number]) for number in range(60)]
    titles = [axes.get_title() for axes in fig.axes[:20]]
    assert titles == [f"class ${k}" for k in sorted(np.argsort(medians)[:20])]
    assert "20 of 60" in fig.get_supxlabel()


@pytest.mark.parametrize("count, removal, broken", [(300, None, 0), (300, (5, 150), 0), (40, None, 0), (300, None, 9)])
def test_histogram_counts_the_smallest(tmp_path, count, removal, broken):
    margins = write_run(tmp_path, count=count, removal=removal, broken=broken)
    run = read_run(tmp_path / "run")
    axes = curves.draw_run_histogram(run).axes[0]
    values = np.sort(margins[-1][run.mask["mask"] & np.isfinite(margins[-1])])[:100]
    expected, edges = np.histogram(values, 10)
    assert [bar.get_height() for bar in axes.patches] == expected.tolist()
    assert [text.get_text() for text in axes.texts] == [str(n) for n in expected]
    np.testing.assert_allclose([bar.get_x() for bar in axes.patches], edges[:-1], atol=1e-12)
    assert ("all 40" if count == 40 else "100 smallest") in axes.get_xlabel()
    assert ("9 of 300 not finite" in axes.get_xlabel()) == bool(broken)


def test_histogram_of_equal_margins_stays_near_them():
    axes = curves.draw_histogram(np.full(30, 0.001), np.arange(30), 1).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 30 and axes.get_xlim()[1] < 0.002


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("separation, removal", [(None, None), (4, None), (4, (4, 60))])
def test_errors_mark_separation_and_removal(tmp_path, finished, separation, removal):
    write_run(tmp_path, separation=separation, removal=removal, finished=finished)
    run = read_run(tmp_path / "run")
    fig = errors.draw_run(run)
    assert run.separation == separation and run.removals == ((Removal(4, 60),) if removal else ())
    for axes in fig.axes:
        marks = {line.get_label(): line.get_xdata()[0] for line in axes.lines[2:]}
        expected = {"separation, epoch 4": 4} if separation else {}
        assert marks == expected | ({"removal, epoch 4: 60 kept": 4} if removal else {})
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert legend[1:] == ["test", *marks] and ("kept" in legend[0]) == bool(removal)
    np.testing.assert_array_equal(fig.axes[0].lines[0].get_ydata(), run.metrics["train_error"])
    loss = np.where(run.metrics["train_loss"] > 0, run.metrics["train_loss"], np.nan)
    np.testing.assert_array_equal(fig.axes[1].lines[0].get_ydata(), loss)
    assert fig.axes[1].get_yscale() == "log" and np.isnan(loss[-1])


@pytest.mark.parametrize("last, scale", [(0.2, "linear"), (0.05, "log"), (0.0, "log"), (np.nan, "linear")])
def test_losses_are_on_a_log_axis_where_they_span_a_decade(last, scale):
    columns = {name: np.array([1.0, 0.5, last]) for name in ("train_loss", "test_loss", "train_error", "test_error")}
    fig = errors.draw_figure({"epoch": np.array([1, 2, 3]), **columns})
    assert fig.axes[1].get_yscale() == scale


@pytest.mark.parametrize("channels, removal", [(1, None), (3, (5, 8))])
def test_gallery_shows_the_smallest_kept(tmp_path, channels, removal):
    margins = write_run(tmp_path, channels=channels, removal=removal)
    run = read_run(tmp_path / "run")
    paths = draw_runs.draw(run.workdir, ["gallery"])
    kept = np.flatnonzero(run.mask["mask"])
    rows = kept[np.lexsort((run.margins.ids[kept], margins[-1][kept]))[:20]]
    listed = json.loads(next(path for path in paths if path.suffix == ".json").read_text())
    assert listed["ids"] == run.margins.ids[rows].tolist() and listed["margins"] == margins[-1][rows].tolist()
    assert listed["labels"] == [f"class ${k}" for k in run.mask["labels"][rows]]
    pixels = np.load(tmp_path / "data.npz")["train_images"][rows] / 16
    for axes, picture, row in zip(gallery.draw_run(run).axes, pixels, rows):
        np.testing.assert_allclose(axes.images[0].get_array(), picture if channels == 3 else picture[..., 0])
        assert axes.texts[0].get_text().startswith(f"id {run.margins.ids[row]}\nclass ${run.mask['labels'][row]}\n")


def test_gallery_names_the_true_label_and_refuses_other_data(tmp_path):
    write_run(tmp_path, randomised=0.3)
    run = read_run(tmp_path / "run")
    shown = gallery.smallest(run)
    panels = gallery.draw_figure(np.zeros((20, 4, 4, 1)), shown, (0.0, 0.0)).axes
    for axes, label, true in zip(panels, shown.labels, shown.true_labels, strict=True):
        assert (f"\ntrue: {true}\n" in axes.texts[0].get_text()) == (label != true)
    with pytest.raises(InputError, match="--data_dir"):  # the data set knows nothing of these true labels
        draw_runs.draw(run.workdir, ["gallery"])


@pytest.mark.parametrize("classes, epochs, finished, broken", [(4, 12, False, 0), (2, 1, True, 300)])
def test_draw_adds_figures_and_touches_nothing_else(tmp_path, classes, epochs, finished, broken):
    write_run(tmp_path, classes, epochs, finished=finished, broken=broken)
    workdir = tmp_path / "run"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    paths = draw_runs.draw(workdir)
    assert sorted(p.name for p in paths) == sorted(
        [f"{name}.{kind}" for name in set(draw_runs.FIGURES) - set(draw_runs.TABLES) for kind in ("png", "pdf")]
        + ["gallery.json"])
    assert {p for p in tmp_path.rglob("*.*")} == set(before) | set(paths)
    assert before == {path: path.read_bytes() for path in before}
    contents = {path: path.read_bytes() for path in paths}
    magic = {".png": b"\x89PNG", ".pdf": b"%PDF", ".json": b"{"}
    assert all(content.startswith(magic[path.suffix]) for path, content in contents.items())
    assert all(path.read_bytes() == contents[path] for path in draw_runs.draw(workdir, ["errors"]))  # holds no date


def test_script_needs_no_jax_and_explains_mistakes(tmp_path):
    write_run(tmp_path)
    code = ("import sys; from plots.runs.draw import draw; draw(sys.argv[1], ['histogram']); "
            "print({'jax', 'flax', 'optax', 'matplotlib.pyplot', 'scipy.stats'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    command = [sys.executable, str(ROOT / "launch" / "plot.py"), "--workdir=run"]
    with pytest.raises(InputError, match="config.json"):
        draw_runs.draw(tmp_path)
    for name, code, message in (("errors", 0, "errors.png"), ("curve", 2, "'curves'")):
        done = subprocess.run([*command, "--figures", name], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code and message in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_frame_fits_the_later_half_and_says_which_epochs_leave_it():
    values = np.linspace(-1, 2, 50)[None] * np.array([100.0, 50.0, 1.0, 1.0])[:, None]
    fig = curves.draw_figure(np.arange(1, 5), lambda row: values[row], np.arange(50))
    low, high = fig.axes[0].get_ylim()
    assert -1.5 < low < -1 and 2 < high < 2.5
    assert "epochs up to 2 reach beyond the frame" in fig.axes[0].get_xlabel()
    calm = curves.draw_figure(np.arange(1, 5), lambda row: values[2], np.arange(50))
    assert "beyond" not in calm.axes[0].get_xlabel()


def test_files_have_300_dots_an_inch_and_truetype_fonts(users_style, tmp_path, monkeypatch):
    for key, value in users_style.items():
        monkeypatch.setitem(style.RC, key, value)
    figure = style.new_figure(2, 1)
    figure.suptitle("margin")
    png, pdf = (path.read_bytes() for path in style.save(figure, tmp_path, "figure"))
    assert struct.unpack(">II", png[16:24]) == (600, 300)
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf  # text that editors of drawings can change
