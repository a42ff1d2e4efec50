"""Figure 6 and the overlaps of all pairs."""

import json

import numpy as np
import pytest
from helpers.compress_folders import by_gid
from helpers.sweep_folders import EXAMPLES, smallest, write_sweep

from margin_jax.errors import InputError
from plots.style import Lacking
from plots.sweeps import fig06, overlaps
from plots.sweeps.read import read_sweep


def test_overlaps_of_all_pairs_by_std(tmp_path):
    curves = write_sweep(tmp_path / "s", stds=(0.05, 0.01), seeds=3, lost=(1,))
    sweep = read_sweep(tmp_path / "s")
    fig = overlaps.draw_sweep(sweep, sweep.moments["end"], "digits")
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
        overlaps.draw_sweep(sweep, sweep.moments["end"], "digits")


def test_overlaps_need_two_networks_of_this_sweep(tmp_path):
    write_sweep(tmp_path / "one", stds=(0.01,), seeds=1)
    sweep = read_sweep(tmp_path / "one")
    with pytest.raises(Lacking, match="two networks"):
        overlaps.draw_sweep(sweep, sweep.moments["end"], "digits")
    np.savez(tmp_path / "one" / "overlap.npz", end_networks=np.array([4]), end_20=np.ones((1, 1)))
    with pytest.raises(InputError, match="not of one sweep"):
        overlaps.draw_sweep(sweep, sweep.moments["end"], "digits")


def test_figure_6_follows_two_networks(tmp_path):
    curves = write_sweep(tmp_path / "s", lost=(0,))
    sweep = read_sweep(tmp_path / "s")
    pair = fig06.read_pair(sweep)
    assert pair.numbers == (1, 2) and pair.epochs.tolist() == [2, 4, 6, 8, 10]
    ids = pair.runs[0].margins.ids
    fig = fig06.draw_figure(pair, "digits")
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
    content = json.loads(fig06.write_numbers(pair, tmp_path, "fig06").read_text())
    found = [set(smallest(curves[number, 10], ids, 20)) for number in (1, 2)]
    assert [set(one["ids"]) for one in content["networks"]] == found
    assert content["shared_ids"] == sorted(found[0] & found[1]) and content["epochs"] == [2, 4, 6, 8, 10]
    panels = fig06.draw_pair_pictures(pair).axes
    framed = [int(axes.texts[0].get_text().split("\n")[0].removeprefix("id ")) for axes in panels
              if any(patch.get_gid() == "shared" for patch in axes.patches)]
    assert sorted(framed) == sorted(2 * sorted(found[0] & found[1])) and len(panels) == 40


def test_figure_6_says_what_it_needs(tmp_path):
    write_sweep(tmp_path / "few", kept=())
    with pytest.raises(Lacking, match="3 epochs or more, got 1; .*record.margins_every"):
        fig06.read_pair(read_sweep(tmp_path / "few"))
    write_sweep(tmp_path / "alone", seeds=1)
    sweep = read_sweep(tmp_path / "alone")
    with pytest.raises(Lacking, match="no two alike; set sweep.seeds_per_std"):
        fig06.read_pair(sweep)
    assert "init std 0.01 and 0.05" in fig06.draw_figure(fig06.read_pair(sweep, (0, 2)), "digits").get_suptitle()
    for numbers in ((0, 0), (0, 3)):
        with pytest.raises(InputError, match="two different networks of 0 to 2"):
            fig06.read_pair(sweep, numbers)
