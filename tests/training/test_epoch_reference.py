"""Training against independent truths: NumPy in float64, and PyTorch where it is installed."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import reference
from helpers.networks import Trainer, assert_trees_close, examples_of, small_arrays, small_network

from margin_jax.training.epoch import Plan

COUNT, BATCH, EPOCHS = 22, 5, 4  # five steps an epoch, the last with two rows: 20 steps


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def setting():
    images, labels = small_arrays(COUNT)
    examples = examples_of(images, labels)
    x = (images - np.asarray(examples.mean, np.float64)) / np.asarray(examples.std, np.float64)
    return examples, x, labels


def test_gradient_of_the_reference_is_right():
    _, x, labels = setting()
    params = float64(Trainer(small_network()).state.params)
    _, gradient = reference.loss_and_gradient(params, x, labels)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda w: rng.normal(size=w.shape), params)
    moved = [reference.loss_and_gradient(jax.tree.map(lambda w, d, s=s: w + s * d, params, direction), x, labels)[0]
             for s in (1e-6, -1e-6)]
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    np.testing.assert_allclose((moved[0] - moved[1]) / 2e-6, slope, rtol=1e-6)


# What conftest.py changes for the sake of short compilations, as users have it; where XLA knows it.
DEFAULTS = {name: value for name, value in (
    ("xla_backend_optimization_level", 3), ("xla_llvm_disable_expensive_passes", False),
    ("xla_cpu_use_fusion_emitters", True), ("xla_cpu_parallel_codegen_split_count", 32))
    if f"--{name}=" in os.environ["XLA_FLAGS"]}


@pytest.mark.parametrize("conv,weight_decay,options", [
    ("patches", 0.0, {}), ("patches", 0.01, {}), ("lax", 0.0, {}), ("lax", 0.01, {}), ("patches", 0.01, DEFAULTS)])
def test_twenty_steps_match_numpy(conv, weight_decay, options):
    examples, x, labels = setting()
    trainer = Trainer(small_network(conv=conv), weight_decay=weight_decay)
    if options:
        lowered = trainer.run_epoch.lower(trainer.state, examples, jnp.ones(COUNT, bool), jnp.int32(BATCH),
                                          Plan(BATCH, True))
        program = lowered.compile(compiler_options=options)
        trainer.run_epoch = lambda *arguments: program(*arguments[:-1])  # the plan is in it
    params, losses = reference.train(float64(trainer.state.params), x, labels, BATCH, 20, 0.05, 0.9, weight_decay)
    start = float64(trainer.state.params)
    seen = [trainer.epoch(examples, np.ones(COUNT, bool), BATCH) for _ in range(EPOCHS)]
    assert sum(int(s.steps) for s in seen) == 20
    assert_trees_close(trainer.state.params, params, rtol=2e-4, atol=2e-5)
    moved = max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(params), strict=True))
    assert moved > 0.02  # or the comparison would show nothing
    sizes = np.array([5, 5, 5, 5, 2])
    for epoch, stats in enumerate(seen):
        expected = (np.array(losses[5 * epoch:5 * epoch + 5]) * sizes).sum() / COUNT
        np.testing.assert_allclose(stats.loss, expected, rtol=1e-4)
    logits, _ = reference.forward(params, x)
    np.testing.assert_allclose(trainer.network.logits(trainer.state.params, {}, jnp.asarray(x, jnp.float32)), logits,
                               rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_twenty_steps_match_torch(optimizer, batch_norm):
    torch = pytest.importorskip("torch")
    examples, x, labels = setting()
    rate = 0.05 if optimizer == "sgd" else 0.002
    trainer = Trainer(small_network(batch_norm=batch_norm), optimizer=optimizer, learning_rate=rate, weight_decay=0.01)
    ours = trainer.state.params
    layers = []
    for index, (inputs, width) in enumerate([(3, 4), (4, 6)]):
        conv = torch.nn.Conv2d(inputs, width, 3, stride=2, padding=1, bias=False)
        conv.weight.data = torch.tensor(np.asarray(ours[f"conv_{index}"]["kernel"]).transpose(3, 2, 0, 1).copy())
        layers += [conv, *([torch.nn.BatchNorm2d(width)] if batch_norm else []), torch.nn.ReLU()]
    dense = torch.nn.Linear(24, 3, bias=False)
    kernel = np.asarray(ours["dense"]["kernel"]).reshape(2, 2, 6, 3)  # ours flattens (H, W, C), torch (C, H, W)
    dense.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).reshape(3, 24).copy())
    theirs = torch.nn.Sequential(*layers, torch.nn.Flatten(), dense)
    make = {"sgd": lambda p: torch.optim.SGD(p, rate, 0.9, weight_decay=0.01),
            "adam": lambda p: torch.optim.Adam(p, rate, weight_decay=0.01)}[optimizer]
    update = make(theirs.parameters())
    inputs, targets = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32), torch.tensor(labels, dtype=torch.long)
    for _ in range(EPOCHS):
        for start in range(0, COUNT, BATCH):
            update.zero_grad()
            rows = slice(start, start + BATCH)
            torch.nn.functional.cross_entropy(theirs(inputs[rows]), targets[rows]).backward()
            update.step()
        trainer.epoch(examples, np.ones(COUNT, bool), BATCH)
    theirs.eval()
    logits = trainer.network.logits(trainer.state.params, trainer.state.batch_stats, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(logits, theirs(inputs).detach().numpy(), rtol=2e-3, atol=2e-3)
