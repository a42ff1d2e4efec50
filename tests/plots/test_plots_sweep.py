"""All figures of a sweep: what is drawn, what is left out and why."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.sweep_folders import write_sweep

from margin_jax.errors import InputError
from plots import style
from plots.sweeps import draw as draw_sweeps

KINDS = ("fig01", "fig03", "fig12", "fig13", "fig14", "flatness")  # of sweeps that compare kinds of networks
ROOT = Path(__file__).resolve().parents[2]


def test_draw_adds_its_files_and_touches_nothing_else(tmp_path):
    workdir = tmp_path / "s"
    write_sweep(workdir, moments=("separation",))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    paths = draw_sweeps.draw(workdir)
    assert sorted(path.name for path in paths) == sorted(
        ["audit.md", "fig02.json", "fig06.json",
         *(f"{name}.{kind}" for name in draw_sweeps.FIGURES if name != "audit" and name not in KINDS
           for kind in ("png", "pdf"))])
    assert {p for p in tmp_path.rglob("*.*") if p.is_file()} == set(before) | set(paths)
    assert before == {path: path.read_bytes() for path in before}


def test_what_a_sweep_is_not_made_for_is_left_out_with_a_line(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(style, "save", lambda figure, folder, name: [folder / f"{name}.png"])
    write_sweep(tmp_path / "s", stds=(0.01, 0.02, 0.03), seeds=1, moments=("separation", "end"), lost=(2,))
    with caplog.at_level(logging.WARNING):
        names = {path.stem for path in draw_sweeps.draw(tmp_path / "s")}
    assert names == {"fig02", "fig02_end", "overlaps", "overlaps_end"}
    for name in ("forest", "audit", "fig06", "fig06_pictures"):
        assert [line for line in caplog.messages if line.startswith(f"{name} is left out: ")]
        with pytest.raises(InputError, match=f"^{name}: "):
            draw_sweeps.draw(tmp_path / "s", [name])
    write_sweep(tmp_path / "none", seeds=1, lost=range(3))
    with pytest.raises(InputError, match="fig02: .* has 0 of 3"):
        draw_sweeps.draw(tmp_path / "none", ["fig02"])


def test_mistakes_are_explained(tmp_path):
    workdir = tmp_path / "s"
    write_sweep(workdir)
    with pytest.raises(InputError, match="no figure 'fig-02'; nearest is 'fig02'"):
        draw_sweeps.draw(workdir, ["fig-02"])
    (workdir / "audit.csv").unlink()
    for names in (None, ["forest"], ["fig02"]):
        with pytest.raises(InputError, match="has no audit.csv"):
            draw_sweeps.draw(workdir, names)
    (workdir / "networks" / "000" / "margins.npz").unlink()
    with pytest.raises(InputError, match="overlap|recorded"):
        draw_sweeps.draw(workdir, ["fig06"])
    (workdir / "networks.csv").unlink()
    with pytest.raises(InputError, match="no networks.csv, which a sweep writes when all networks are trained"):
        draw_sweeps.draw(workdir)


def test_script_needs_no_jax_and_takes_two_networks(tmp_path):
    write_sweep(tmp_path / "s")
    code = ("import sys; from plots.sweeps.draw import draw; draw(sys.argv[1], ['audit']); "
            "print({'jax', 'flax', 'optax', 'matplotlib.pyplot'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    command = [sys.executable, str(ROOT / "launch" / "plot.py"), f"--workdir={tmp_path / 's'}", "--figures=fig06"]
    for numbers, code, message in (("4,6", 0, "fig06.png"), ("4", 2, "two networks of a sweep")):
        done = subprocess.run([*command, f"--networks={numbers}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code and message in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [one["network"] for one in json.loads((tmp_path / "s" / "figures" / "fig06.json").read_text())[
        "networks"]] == [4, 6]
