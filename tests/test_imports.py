"""Imports run one way, and pure modules have no effects to import."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "margin_jax"
EFFECTS = {"os", "pathlib", "shutil", "subprocess", "absl", "tensorflow_datasets", "orbax", "matplotlib", "tqdm",
           "requests", "ml_collections", "sklearn"}
PURE = ["margins", "pieces", "devices", "tuning", "distribution", "norms", "masks", "rules", "scores", "dynamics",
        "batching", "network", "removals", "optimizers", "state", "train", "evaluate", "ensemble", "models/batch_norm",
        "models/build", "models/convnet", "models/convolution", "models/densenet", "models/densenet_size",
        "models/initialisers", "models/patch_convolution", "models/patches", "orders", "bootstrap", "ranking",
        "information", "audit", "chain", "operators", "norm_measures", "margin_measures", "measures", "collapse",
        "deletion", "replace_one"]
# A module may import from its own layer and those before it.
LAYERS = [
    {"errors", "nearest", "tuning", "devices"},
    {"pieces", "masks", "norms", "distribution", "models", "network", "data", "orders", "bootstrap", "chain",
     "operators", "norm_measures", "replace_one"},
    {"margins", "rules", "scores", "dynamics", "optimizers", "batching", "config", "removals", "ranking",
     "information", "margin_measures", "measures", "collapse", "deletion"},
    {"state", "allowed", "records", "tables", "audit"},
    {"validation"},
    {"train", "evaluate", "workdir", "results", "checkpoint", "runtime"},
    {"ensemble"},
    {"runs", "bench"},
    {"cli"},
]


def imported(path):
    """Dotted names a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(name):
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path):
    own = layer_of(path.relative_to(PACKAGE).with_suffix("").parts[0])
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] not in {"launch", "plots", "configs", "tests"}, name
        if parts[0] == "margin_jax" and len(parts) > 1:
            assert layer_of(parts[1]) <= own, f"{path.name} imports {name} from a later layer"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_no_effects(name):
    found = {n.split(".")[0] for n in imported(PACKAGE / f"{name}.py")}
    assert not found & EFFECTS
    ours = {".".join(n.split(".")[:2]) for n in imported(PACKAGE / f"{name}.py") if n.startswith("margin_jax")}
    assert not ours & {"margin_jax.results", "margin_jax.records", "margin_jax.checkpoint", "margin_jax.runs",
                       "margin_jax.data"}


def test_only_the_benchmark_knows_torch():
    assert [p for p in MODULES if any(n.startswith("torch") for n in imported(p))] == [PACKAGE / "bench" / "pytorch.py"]


def test_only_one_module_knows_orbax_and_none_mentions_pmap_outside_the_ensemble():
    users = [p for p in MODULES if any(n.startswith("orbax") for n in imported(p))]
    assert users == [PACKAGE / "checkpoint.py"]
    assert not [p for p in MODULES if "pmap" in p.read_text(encoding="utf-8") and p.stem != "ensemble"]


@pytest.mark.parametrize("path", sorted((ROOT / "plots").glob("*.py")), ids=lambda p: p.name)
def test_plots_import_no_jax(path):
    assert not {n.split(".")[0] for n in imported(path)} & {"jax", "flax", "optax"}
    ours = {n.split(".")[1] for n in imported(path) if n.startswith("margin_jax.")}
    assert not ours - {"records", "tables", "errors", "nearest", "data"}


def test_every_library_file_is_in_this_test():
    assert all(layer_of(p.relative_to(PACKAGE).with_suffix("").parts[0]) >= 0 for p in MODULES)
