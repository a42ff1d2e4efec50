"""DenseNet-BC: its function and gradient against NumPy, masks, margins and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import reference_densenet as reference
from helpers.networks import Trainer, assert_trees_close, assert_trees_equal, compiled, examples_of, small_arrays

from margin_jax.models.densenet import DenseNetBC, average_pool
from margin_jax.models.network import from_flax
from margin_jax.parallel import ROWS, replicate, row_mesh
from margin_jax.theory import norms
from margin_jax.training.epoch import compile_epoch, make_plan
from margin_jax.training.evaluate import make_evaluate

BLOCKS, SIZE, ROWS_KEPT, PADDING, CLASSES = (1, 2), 7, 3, 2, 3  # 7x7 pixels: the pooling meets an edge
N, BATCH = 23, 4


@functools.cache
def network(conv="lax", rows_axis=None):
    return from_flax(DenseNetBC(CLASSES, BLOCKS, 3, 0.5, 5, biases=True, conv=conv, rows_axis=rows_axis), batched=True)


@functools.cache
def variables():
    """Parameters and running statistics away from the ones and zeros they start from."""
    start = jax.jit(network().init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda w: w + rng.uniform(0.1, 0.3, w.shape).astype(np.float32), start)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.grad, argnums=1, has_aux=True)
def gradient(conv, params, stats, x, weights, labels):
    """Gradient of the mean loss, and the logits of the rows that count and new statistics."""
    logits, new_stats = network(conv).forward(params, stats, x, weights)
    losses = -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
    return jnp.sum(losses * weights) / jnp.sum(weights), (logits[:ROWS_KEPT], new_stats)


def batch(padding):
    """Rows that count, then rows of weight 0 filled with `padding`."""
    x = np.random.default_rng(2).normal(size=(ROWS_KEPT + PADDING, SIZE, SIZE, 3)).astype(np.float32)
    x[ROWS_KEPT:] *= padding
    return x, (np.arange(len(x)) < ROWS_KEPT).astype(np.float32), np.arange(len(x), dtype=np.int32) % CLASSES


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (4, 1), (7, 6)])
def test_average_pooling_matches_numpy(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), reference.pool(x.astype(np.float64)), rtol=1e-5, atol=1e-6)


def test_logits_statistics_and_gradient_are_those_of_numpy_on_the_rows_that_count():
    params, stats = variables()
    x, weights, labels = batch(padding=50)
    slopes, (logits, new_stats) = gradient("patches", params, stats, x, weights, labels)
    exact, exact_stats, rows = float64(params), float64(stats), float64(x[:ROWS_KEPT])

    def forward(params):
        return reference.forward(params, exact_stats, rows, True, BLOCKS)

    expected, expected_stats = forward(exact)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert_trees_close(new_stats, expected_stats, rtol=1e-4, atol=1e-5)
    rng, (leaves, tree) = np.random.default_rng(3), jax.tree.flatten(exact)
    for index, leaf in enumerate(jax.tree.leaves(slopes)):  # the slope along a direction within each leaf
        direction = rng.normal(size=leaf.shape)
        moved = [forward(tree.unflatten([*leaves[:index], leaves[index] + step * direction, *leaves[index + 1:]]))[0]
                 for step in (1e-6, -1e-6)]
        slope = np.subtract(*(reference.loss(m, labels[:ROWS_KEPT]) for m in moved)) / 2e-6
        np.testing.assert_allclose((np.asarray(leaf) * direction).sum(), slope, rtol=1e-3, atol=1e-4)


def test_rows_of_weight_0_change_nothing():
    gradients = [gradient("patches", *variables(), *batch(padding)) for padding in (1, 1e4)]
    assert_trees_equal(*gradients)


def test_rho_takes_every_batch_norm_and_the_dense_layer():
    params = float64(variables()[0])
    layers = [layer["norm"] for layer in params.values() if "norm" in layer] + [params["norm"]]
    assert len(layers) == 2 * sum(BLOCKS) + len(BLOCKS)
    expected = [np.sqrt((layer["scale"] ** 2).sum() + (layer["bias"] ** 2).sum()) for layer in layers]
    expected.append(np.sqrt((params["dense"]["kernel"] ** 2).sum()))
    assert norms.default_mode(variables()[0]) == "batch_norm"
    factors = norms.rho_factors(variables()[0], "batch_norm")
    np.testing.assert_allclose(np.sort(factors), np.sort(expected), rtol=1e-5)
    np.testing.assert_allclose(norms.rho(variables()[0]), np.prod(expected), rtol=1e-4)


def trained(epochs, spoilt=False):
    """A network after some epochs on the rows that an odd mask keeps; removed rows hold NaN if `spoilt`."""
    images, labels = small_arrays(N, size=SIZE)
    mask = np.arange(N) % 5 != 0  # 18 rows: steps of 4, 4, 4, 4 and 2
    examples = examples_of(images.astype(np.float32), labels)
    if spoilt:
        examples = examples._replace(images=jnp.where(jnp.asarray(mask)[:, None, None, None], examples.images, jnp.nan))
    trainer = Trainer(network(), image_shape=(SIZE, SIZE, 3))
    return trainer, examples, mask, [trainer.epoch(examples, mask, BATCH) for _ in range(epochs)]


def test_training_lowers_the_loss_and_removed_rows_may_hold_nan():
    clean, _, _, seen = trained(6)
    spoilt, _, _, again = trained(6, spoilt=True)
    assert seen[-1].loss < 0.8 * seen[0].loss and seen[-1].bad_step == again[-1].bad_step == -1
    assert_trees_equal(clean.state, spoilt.state)


@pytest.mark.parametrize("conv", ["patches", "lax"])
def test_margins_of_all_rows_match_numpy(conv):
    trainer, examples, _, _ = trained(1)
    state = trainer.state
    evaluation = make_evaluate(network(conv), 10)(state.params, state.batch_stats, examples)
    x = (np.asarray(examples.images, np.float64) - np.asarray(examples.mean)) / np.asarray(examples.std)
    logits, _ = reference.forward(float64(state.params), float64(state.batch_stats), x, False, BLOCKS)
    labels = np.asarray(examples.labels)
    others = np.where(np.arange(CLASSES) == labels[:, None], -np.inf, logits).max(1)
    np.testing.assert_allclose(evaluation.margins, logits[np.arange(N), labels] - others, rtol=1e-3, atol=1e-4)


def test_two_devices_train_as_one():
    alone, examples, mask, seen = trained(2)
    mesh = row_mesh(2)
    optimizer, _, state = compiled(network(), False, "sgd", 0.05, 0.0, (SIZE, SIZE, 3))
    run_epoch = compile_epoch(network(rows_axis=ROWS), optimizer, False, mesh)
    plan, rows = make_plan(BATCH, int(mask.sum()), 256, True, 2, N)
    state = replicate(state(0), mesh)
    for _ in range(2):
        state, stats = run_epoch(state, replicate(examples, mesh), jnp.asarray(mask), jnp.int32(rows), plan)
    assert_trees_close((state.params, state.batch_stats), (alone.state.params, alone.state.batch_stats), 2e-4, 1e-5)
    np.testing.assert_allclose(stats.loss, seen[-1].loss, rtol=1e-4)
