"""The code in the documents runs, and the commands they name exist."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import margin_jax as mj

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def library_blocks(kind=""):
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    return re.findall(rf"```python{kind and ' '}{kind}\n(.*?)```", text, re.S)


def run_blocks(blocks, scope):
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), scope)
    return scope


def test_the_library_guide_runs(capsys):
    blocks = library_blocks()
    scope = run_blocks(blocks, {})
    assert len(blocks) == 6 and scope["all_margins"].shape == (5, 300)
    assert scope["chosen"].sum() == 200 and scope["many"].shape == (2, 1000)
    assert scope["hardest"].sum() == 200 and scope["forgotten"].max() <= 3
    assert scope["covering"].sum() == 200 and sorted(scope["places"])[:200] == list(range(200))
    network = mj.from_flax(scope["perceptron"](3))
    params, _ = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert network.logits(params, {}, jnp.zeros((5, 8, 8, 1))).shape == (5, 3)
    assert capsys.readouterr().out.count("\n") == 3


def test_models_of_flax_nnx_are_functions_of_a_pytree():
    (block,) = library_blocks("nnx")
    scope = run_blocks([library_blocks()[0], block], {})
    kernels, biases = ([scope["nnx_params"]["layers"][layer][name][...] for layer in (0, 2)]
                       for name in ("kernel", "bias"))
    logits = np.maximum(scope["x"] @ kernels[0] + biases[0][None], 0) @ kernels[1] + biases[1][None]
    np.testing.assert_allclose(scope["nnx_eta"], mj.margins(logits, scope["labels"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scope["nnx_rho"], np.prod([np.linalg.norm(kernel) for kernel in kernels]), rtol=1e-5)


def test_models_of_equinox_are_functions_of_a_pytree():
    pytest.importorskip("equinox")
    (block,) = library_blocks("equinox")
    scope = run_blocks([library_blocks()[0], block], {})
    layers = scope["mlp"].layers
    logits = np.maximum(scope["x"] @ layers[0].weight.T + layers[0].bias[None], 0) @ layers[1].weight.T
    logits = logits + layers[1].bias[None]
    np.testing.assert_allclose(scope["eqx_eta"], mj.margins(logits, scope["labels"]), rtol=1e-4, atol=1e-5)
    norms = [np.linalg.norm(layer.weight) for layer in layers]
    np.testing.assert_allclose(scope["eqx_rho"], np.prod(norms), rtol=1e-5)


def test_the_loop_of_pytorch_leaves_a_run_folder(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    (block,) = library_blocks("torch")
    monkeypatch.chdir(tmp_path)
    scope = run_blocks([block], {"mj": mj})
    run = mj.read_run("runs/pytorch")
    assert run.metrics["epoch"].tolist() == [1, 2, 3, 4, 5] and run.class_names == ("a", "b", "c")
    scope["net"].requires_grad_(False)
    logits = scope["net"](scope["images"]).numpy()
    np.testing.assert_allclose(run.margins.margins[-1], mj.margins(logits, scope["classes"].numpy()), rtol=1e-5,
                               atol=1e-6)
    weights = [layer.weight.numpy() for layer in scope["net"] if hasattr(layer, "weight")]
    np.testing.assert_allclose(run.metrics["rho"][-1], np.prod([np.linalg.norm(weight) for weight in weights]),
                               rtol=1e-5)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_files_and_links_named_in_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    for script in re.findall(r"(?:launch|configs)/\w+\.py", text):
        assert (ROOT / script).is_file(), script
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert link.startswith("http") or (document.parent / link).exists(), link
