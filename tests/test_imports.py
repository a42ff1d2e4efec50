"""Imports run one way, from room to room, and pure rooms have no effects to import."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "margin_jax"
EFFECTS = {"os", "pathlib", "shutil", "subprocess", "absl", "tensorflow_datasets", "orbax", "matplotlib", "tqdm",
           "requests", "ml_collections", "sklearn"}
PURE = {"theory", "statistics", "models", "training", "parallel"}
# What a room, or a file at the top of the package, may import beside itself; `errors` is open to all.
GROUND = {"backend", "parallel", "signals"}
MAY_IMPORT = {
    "errors": set(), "signals": set(), "machine": set(), "backend": {"machine", "signals"}, "parallel": set(),
    "models": GROUND, "data": {"machine"}, "statistics": set(),
    "theory": {"models", "parallel"},
    "training": {"theory", "models", *GROUND},
    "config": set(), "validation": {"config", "theory", "models", "data", "training.state"},  # names of choices
    "run_folder.checksums": set(), "run_folder.lock": set(), "run_folder.tables": {"run_folder.checksums"},
    "run_folder.read": {"run_folder.tables", "run_folder.checksums"},
    "run_folder.check": {"run_folder.tables", "run_folder.read", "run_folder.checksums"},
    "run_folder.write": {"run_folder.lock", "run_folder.tables", "run_folder.read", "run_folder.checksums", "config"},
    "run_folder.checkpoint": {"run_folder.lock", "run_folder.read", "run_folder.checksums"},
    "experiments": {"run_folder", "config", "validation", "training", "theory", "models", "statistics", "data",
                    *GROUND},
    "bench": {"run_folder", "config", "training", "theory", "models", "statistics", "data", "experiments", *GROUND},
    "cli": {"backend", "config", "validation", "machine", "signals"},
}
PLOTS_MAY_IMPORT = {"run_folder.read", "run_folder.tables", "statistics", "theory.distribution", "data", "errors"}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imported(path):
    """Dotted names a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    """The names of the package that a file imports, as "room.file" or "file"."""
    for name in imported(path):
        if name.startswith("margin_jax."):
            parts = name.split(".")[1:]
            yield ".".join(parts[:2]) if (PACKAGE / parts[0]).is_dir() else parts[0]


def room_of(path):
    """The key of MAY_IMPORT that a file falls under."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts) if ".".join(parts) in MAY_IMPORT else parts[0]


def forbidden(names, allowed):
    return {name for name in names if name not in allowed and name.split(".")[0] not in allowed}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path):
    if path.name == "__init__.py":
        assert not list(imported(path))  # only the package's own face shows names
        return
    room = room_of(path)
    assert not {name.split(".")[0] for name in imported(path)} & {"launch", "plots", "configs", "tests"}
    within = {room} if "." not in room else set()
    assert not forbidden(ours(path), MAY_IMPORT[room] | {"errors"} | within)


def test_a_forbidden_import_is_seen(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("from margin_jax.experiments import job\n\n\ndef f():\n    from margin_jax.models import layers\n")
    assert forbidden(ours(path), MAY_IMPORT["theory"]) == {"experiments.job"}


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in PURE],
                         ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_pure_rooms_import_no_effects(path):
    assert not {name.split(".")[0] for name in imported(path)} & EFFECTS


def test_only_the_benchmark_knows_torch():
    assert [p for p in MODULES if any(n.startswith("torch") for n in imported(p))] == [PACKAGE / "bench" / "pytorch.py"]


def test_only_one_module_knows_orbax_and_none_mentions_pmap_outside_the_ensemble():
    users = [p for p in MODULES if any(n.startswith("orbax") for n in imported(p))]
    assert users == [PACKAGE / "run_folder" / "checkpoint.py"]
    assert not [p for p in MODULES if "pmap" in p.read_text(encoding="utf-8") and p.stem != "ensemble"]


@pytest.mark.parametrize("path", sorted((ROOT / "plots").rglob("*.py")), ids=lambda p: p.name)
def test_plots_import_no_jax(path):
    assert not {n.split(".")[0] for n in imported(path)} & {"jax", "flax", "optax"}
    assert not forbidden(ours(path), PLOTS_MAY_IMPORT)
