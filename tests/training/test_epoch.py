"""One epoch: the mask is a subset, nothing else; every batch size; few programs; no host round trip."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import reference
from helpers.networks import Trainer, assert_trees_close, assert_trees_equal, examples_of, small_arrays, small_network
from helpers.schedules import fig04_schedule

from margin_jax.data.dataset import make_split
from margin_jax.errors import InputError
from margin_jax.experiments.job import make_examples
from margin_jax.models.convnet import ConvNet
from margin_jax.models.network import from_flax
from margin_jax.training.epoch import Plan, make_run_epoch
from margin_jax.training.evaluate import make_evaluate
from margin_jax.training.state import NOT_SEEN, Examples, make_optimizer, make_state

N = 23


def odd_mask():
    mask = np.random.default_rng(5).random(N) < 0.5
    mask[0] = False
    return mask


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 0])
def test_masked_epoch_is_the_epoch_on_the_subset_array(batch_norm, batch_size):
    images, labels = small_arrays(N)
    mask = odd_mask()
    masked, subset = (Trainer(small_network(batch_norm=batch_norm)) for _ in range(2))
    for _ in range(3):
        a = masked.epoch(examples_of(images, labels), mask, batch_size)
        b = subset.epoch(examples_of(images[mask], labels[mask]), np.ones(mask.sum(), bool), batch_size)
        assert a.errors == b.errors and a.steps == b.steps
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(a.margins)[mask], b.margins, rtol=1e-4, atol=1e-5)
        assert (np.asarray(a.margins)[~mask] == NOT_SEEN).all()
    assert_trees_close((masked.state.params, masked.state.batch_stats),
                       (subset.state.params, subset.state.batch_stats), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("batch_size", [3, 0])
@pytest.mark.parametrize("shuffle", [False, True])
def test_removed_rows_may_hold_nan_and_change_nothing(batch_norm, batch_size, shuffle):
    images, labels = small_arrays(N)
    mask = odd_mask()
    clean = examples_of(images.astype(np.float32), labels)
    spoilt = clean._replace(images=jnp.where(jnp.asarray(mask)[:, None, None, None], clean.images, jnp.nan),
                            labels=jnp.where(jnp.asarray(mask), clean.labels, 99))
    states = []
    for examples in (clean, spoilt):
        trainer = Trainer(small_network(batch_norm=batch_norm), shuffle=shuffle, piece_limit=4)
        stats = [trainer.epoch(examples, mask, batch_size) for _ in range(2)]
        assert all(s.bad_step == -1 for s in stats)
        states.append(trainer.state)
    assert_trees_equal(*states)


@pytest.mark.parametrize("batch_size", [1, 6, 7, 8, N - 1, N, 0])
def test_batch_size_sweep_matches_a_python_loop(batch_size):
    images, labels = small_arrays(N)
    examples, trainer = examples_of(images, labels), Trainer(small_network())
    x = (images - np.asarray(examples.mean, np.float64)) / np.asarray(examples.std, np.float64)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), trainer.state.params)
    velocity = jax.tree.map(np.zeros_like, params)
    rows, seen = batch_size or N, []
    for start in range(0, N, rows):
        step = slice(start, start + rows)
        seen += [np.delete(logits, y).max() - logits[y] for logits, y in zip(
            reference.forward(params, x[step])[0], labels[step], strict=True)]
        _, gradient = reference.loss_and_gradient(params, x[step], labels[step])
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        params = jax.tree.map(lambda p, v: p - 0.05 * v, params, velocity)
    stats = trainer.epoch(examples, np.ones(N, bool), batch_size)
    assert stats.steps == -(-N // rows) and stats.errors == np.sum(np.array(seen) >= 0)
    np.testing.assert_allclose(stats.margins, -np.array(seen), rtol=1e-4, atol=1e-5)  # each before its own update
    assert_trees_close(trainer.state.params, params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [0, 20])
@pytest.mark.parametrize("limit", [1, 3, 8, 22])
def test_a_step_in_pieces_is_the_step_in_one(batch_size, limit):
    examples = examples_of(*small_arrays(N))
    whole, pieces = (Trainer(small_network(), piece_limit=p) for p in (256, limit))
    seen = []
    for trainer in (whole, pieces):
        for _ in range(2):
            stats = trainer.epoch(examples, np.ones(N, bool), batch_size)
        seen.append(stats.margins)
    np.testing.assert_allclose(*seen, rtol=1e-4, atol=1e-5)
    assert_trees_close(whole.state.params, pieces.state.params, rtol=1e-5, atol=1e-6)
    assert stats.steps == (1 if batch_size == 0 else 2)


@pytest.mark.parametrize("batch_norm,batch_size,total", [(False, 0, 64), (True, 0, 32), (False, 16, 64)])
def test_the_removal_schedule_compiles_within_the_bound(batch_norm, batch_size, total):
    examples = examples_of(*small_arrays(total, size=4))
    network = from_flax(ConvNet(3, (2,), batch_norm), batch_norm)
    trainer = Trainer(network, image_shape=(4, 4, 3), piece_limit=16, fresh=True)
    for kept in fig04_schedule(total):
        stats = trainer.epoch(examples, np.arange(total) < kept, batch_size)
        assert stats.steps == (1 if batch_size == 0 else -(-kept // 16))
    assert trainer.run_epoch._cache_size() <= int(np.ceil(np.log2(total))) + 1


def test_same_shape_new_mask_compiles_nothing():
    examples, trainer = examples_of(*small_arrays(N)), Trainer(small_network(), fresh=True)
    for kept in (N, 15, 9, 8):
        trainer.epoch(examples, np.random.default_rng(kept).permutation(N) < kept, 8)
    assert trainer.run_epoch._cache_size() == 1


def test_an_epoch_has_no_host_callback_and_donates_its_state():
    examples, trainer = examples_of(*small_arrays(N)), Trainer(small_network())
    text = str(trainer.run_epoch.trace(trainer.state, examples, jnp.ones(N, bool), jnp.int32(4),
                                       Plan(4, True)).jaxpr)
    assert "while" in text and "callback" not in text and "infeed" not in text
    before = trainer.state
    trainer.epoch(examples, np.ones(N, bool), 4)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))


def test_shuffled_epochs_differ_and_repeat_with_the_seed():
    examples = examples_of(*small_arrays(N))
    runs = []
    for seed, shuffle in ((0, True), (0, True), (0, False)):
        trainer = Trainer(small_network(), shuffle=shuffle, seed=seed)
        for _ in range(2):
            trainer.epoch(examples, np.ones(N, bool), 4)
        runs.append(trainer.state.params)
    assert_trees_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0]["dense"]["kernel"], runs[2]["dense"]["kernel"])


def test_a_loss_that_is_not_finite_names_its_first_step():
    images, labels = small_arrays(N)
    images = images.astype(np.float32)
    images[9] = np.inf  # in step 2 of batches of four
    trainer = Trainer(small_network())
    assert trainer.epoch(examples_of(images, labels), np.ones(N, bool), 4).bad_step == 2
    calm = Trainer(small_network())
    assert calm.epoch(examples_of(*small_arrays(N)), np.ones(N, bool), 4).bad_step == -1


def test_parameters_spoilt_by_the_last_update_are_noticed():
    images, labels = small_arrays(N)
    trainer = Trainer(small_network(), learning_rate=1e38)
    brighter = examples_of(images, labels)._replace(std=jnp.full(3, 1e-3))  # gradients of order 1e4, 1e42 overflows
    stats = trainer.epoch(brighter, np.ones(N, bool), 0)
    assert np.isfinite(stats.loss) and stats.bad_step == 0


def test_learning_rate_is_data():
    examples, trainer = examples_of(*small_arrays(N)), Trainer(small_network())
    trainer.epoch(examples, np.ones(N, bool), 8)
    before = jax.tree.map(np.asarray, trainer.state.params)
    hyperparams = trainer.state.opt_state.hyperparams | {"learning_rate": jnp.zeros(())}
    trainer.state = trainer.state._replace(opt_state=trainer.state.opt_state._replace(hyperparams=hyperparams))
    trainer.epoch(examples, np.ones(N, bool), 8)
    assert_trees_equal(before, trainer.state.params)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("piece", [1, 7, N, 100])
def test_evaluation_in_pieces_matches_numpy(batch_norm, piece):
    images, labels = small_arrays(N)
    examples, trainer = examples_of(images, labels), Trainer(small_network(batch_norm=batch_norm))
    trainer.epoch(examples, np.ones(N, bool), 8)
    network, state = trainer.network, trainer.state
    found = make_evaluate(network, piece)(state.params, state.batch_stats, examples)
    x = (images - np.asarray(examples.mean)) / np.asarray(examples.std)
    logits = np.asarray(network.logits(state.params, state.batch_stats, jnp.asarray(x, jnp.float32)), np.float64)
    own = logits[np.arange(N), labels]
    others = np.where(np.arange(3) == labels[:, None], -np.inf, logits).max(1)
    np.testing.assert_allclose(found.margins, own - others, rtol=1e-3, atol=1e-4)
    losses = np.log(np.exp(logits).sum(1)) - own
    np.testing.assert_allclose(found.losses, losses, rtol=1e-3, atol=1e-4)


def test_an_epoch_on_a_single_example_of_a_single_pixel():
    images = np.zeros((1, 1, 1, 1), np.uint8)
    examples = Examples(jnp.asarray(images), jnp.zeros(1, jnp.int32), jnp.zeros(1), jnp.ones(1))
    trainer = Trainer(small_network(2), image_shape=(1, 1, 1))
    assert trainer.epoch(examples, np.ones(1, bool), 1).errors == 1  # all logits tie at zero


@pytest.mark.parametrize("batch_size", [4, 0])
def test_the_public_epoch_plans_its_steps_as_the_compiled_one_is_told(batch_size):
    images, labels = small_arrays(N)
    examples, mask = examples_of(images, labels), odd_mask()
    told = Trainer(small_network())
    expected = told.epoch(examples, mask, batch_size)
    run_epoch = make_run_epoch(small_network(), told.optimizer)
    state, stats = run_epoch(Trainer(small_network()).state, examples, jnp.asarray(mask), batch_size)
    assert_trees_close(state.params, told.state.params)
    assert stats.steps == expected.steps and stats.errors == expected.errors
    with pytest.raises(ValueError, match="keeps one row or more of 23"):
        run_epoch(state, examples, jnp.zeros(N, bool), batch_size)


def test_examples_of_a_split_are_standardised_by_the_split_that_is_named():
    train, test = (make_split(*small_arrays(count, seed=count)) for count in (N, 7))
    examples = make_examples(test, make_examples(train))
    pixels = train.images.astype(np.float64).reshape(-1, 3)
    np.testing.assert_allclose(examples.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(examples.std, pixels.std(0), rtol=1e-6)
    np.testing.assert_allclose(make_examples(test).mean, test.images.reshape(-1, 3).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(examples.labels, test.labels)


class Own(nn.Module):
    """A network of a user, with what it does to its logits."""

    change: Any = staticmethod(lambda logits: logits)
    dtype: Any = jnp.float32
    dropout: bool = False

    @nn.compact
    def __call__(self, x, train, weights):
        x = nn.Dropout(0.5, deterministic=not train)(x) if self.dropout else x
        return self.change(nn.Dense(3, dtype=self.dtype, name="dense")(x.reshape(x.shape[0], -1)))


def _epoch_of(module):
    network, optimizer = from_flax(module, batched=False), make_optimizer("sgd", 0.01)
    examples = examples_of(*small_arrays(9))
    state = make_state(network, optimizer, (8, 8, 3), 0)
    before = jax.tree.map(np.array, state.params)
    _, stats = make_run_epoch(network, optimizer, piece_limit=2)(state, examples, jnp.ones(9, bool), 5)
    return stats, make_evaluate(network, 4)(before, {}, examples), before, examples


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_network_in_half_precision_trains_and_is_measured_in_float32(dtype):
    stats, measured, params, examples = _epoch_of(Own(dtype=dtype))
    assert stats.margins.dtype == stats.loss.dtype == measured.margins.dtype == measured.losses.dtype == jnp.float32
    pixels, mean, std = (np.asarray(part, np.float32) for part in (examples.images, examples.mean, examples.std))
    x = ((pixels - mean) / std).reshape(9, -1)
    logits = np.asarray(nn.Dense(3, dtype=dtype).apply({"params": params["dense"]}, x)).astype(np.float64)
    true = logits[np.arange(9), examples.labels]
    others = np.where(np.eye(3, dtype=bool)[examples.labels], -np.inf, logits).max(1)
    np.testing.assert_allclose(measured.margins, true - others, rtol=1e-2, atol=2e-2)
    np.testing.assert_allclose(measured.losses, np.log(np.exp(logits - true[:, None]).sum(1)), rtol=1e-2, atol=2e-2)
    np.testing.assert_allclose(stats.margins[:5], measured.margins[:5], rtol=1e-2, atol=2e-2)  # of the first step


@pytest.mark.parametrize("change,message", [
    (lambda logits: (logits, logits), "tuple.*gives its logits alone"), (lambda logits: logits[:, :1], "two outputs"),
    (lambda logits: logits.sum(1), r"logits \(N, C\)"), (lambda logits: logits[:1], "row of its own")])
def test_a_network_that_gives_no_logits_is_named_in_our_words(change, message):
    network, optimizer = from_flax(Own(change), batched=False), make_optimizer("sgd", 0.01)
    examples, state = examples_of(*small_arrays(9)), make_state(network, optimizer, (8, 8, 3), 0)
    with pytest.raises(InputError, match=message):
        make_evaluate(network, 4)(state.params, {}, examples)
    with pytest.raises(InputError, match=message):
        make_run_epoch(network, optimizer)(state, examples, jnp.ones(9, bool), 5)


def test_labels_that_are_no_integers_are_refused_before_training():
    network, optimizer = from_flax(Own(), batched=False), make_optimizer("sgd", 0.01)
    examples, state = examples_of(*small_arrays(9)), make_state(network, optimizer, (8, 8, 3), 0)
    examples = examples._replace(labels=jnp.eye(9, 3, dtype=jnp.int32))
    with pytest.raises(InputError, match="one-hot"):
        make_run_epoch(network, optimizer)(state, examples, jnp.ones(9, bool), 5)


def test_dropout_and_a_module_of_other_arguments_are_refused_in_our_words():
    with pytest.raises(InputError, match="Own, which draws some, as Dropout does"):
        _epoch_of(Own(dropout=True))
    with pytest.raises(InputError, match=r"called as module\(x, train, weights\), got Dense"):
        from_flax(nn.Dense(3))
