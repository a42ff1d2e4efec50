"""Neural collapse against NumPy float64, on exact simplices, in pieces, masked, and of networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers.networks import small_network
from helpers.reference_collapse import NUMBERS, by_hand

from margin_jax.errors import InputError
from margin_jax.models.densenet import DenseNetBC
from margin_jax.models.network import classifier, from_flax
from margin_jax.parallel import compile_on, row_mesh
from margin_jax.theory.neural_collapse import Classifier, Sample, class_means, neural_collapse

N, BATCH = 23, 7


@functools.partial(jax.jit, static_argnames=("piece",))
def collapse(features, labels, weights, biases=None, where=None, centres=None, piece=7):
    """Of given features: the network is the identity."""
    return neural_collapse(lambda _, x: x, None, Sample(features, labels, where), Classifier(weights, biases), centres,
                           piece)


def example(classes, count=N, width=6, seed=0, noise=1.0):
    rng = np.random.default_rng(seed + classes)
    labels = (rng.permutation(count) % classes).astype(np.int32)
    centres = 3 + rng.normal(size=(classes, width))
    features = (centres[labels] + noise * rng.normal(size=(count, width))).astype(np.float32)
    return features, labels, rng.normal(size=(width, classes)).astype(np.float32), rng.normal(size=classes)


def assert_close(collapsed, truth, rtol=2e-4, atol=2e-6):
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(collapsed, name), truth[name], rtol=rtol, atol=atol, err_msg=name)


def simplex(classes, width):
    """Vectors (C, D) of equal norm and angles -1/(C - 1), turned at random."""
    turn = np.linalg.qr(np.random.default_rng(classes).normal(size=(width, width)))[0]
    return (np.eye(classes) - 1 / classes) @ turn[:classes]


@pytest.mark.parametrize("classes, piece", [(2, BATCH), (3, BATCH), *((10, p) for p in (1, 6, 7, 8, N))])
def test_the_definitions_in_any_pieces(classes, piece):
    features, labels, weights, biases = example(classes)
    truth = by_hand(features, labels, weights, biases)
    assert 0 < truth["nc4"] < 1 and truth["nc1"] > 0.01  # neither end, so that a mistake shows
    assert_close(collapse(features, labels, weights, biases.astype(np.float32), piece=piece), truth)


def test_removed_rows_and_their_classes_do_not_count_whatever_they_hold():
    features, labels, weights, _ = example(10)
    where = (labels != 3) & (np.arange(N) % 5 > 0)
    truth = by_hand(features, labels, weights, where=where)
    features[~where] = np.nan
    collapsed = collapse(features, labels, weights, where=where)
    assert_close(collapsed, truth)
    assert collapsed.centres.counts[3] == 0 and not collapsed.centres.means[3].any()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_an_exact_simplex_has_collapsed(classes):
    corners, labels = simplex(classes, 12), np.arange(4 * classes) % classes
    offset, weights = np.linspace(1, 2, 12), 7 * corners.T
    features = (5 * corners[labels] + offset).astype(np.float32)
    collapsed = collapse(features, labels, weights.astype(np.float32), (-offset @ weights).astype(np.float32))
    assert float(collapsed.nc1) < 1e-12 and float(collapsed.nc4) == 0
    for name in ("nc2_norms", "nc2_angles", "nc2_norms_weights", "nc2_angles_weights", "nc3"):
        assert abs(float(getattr(collapsed, name))) < 3e-6, name
    centred = np.asarray(collapsed.centres.means) - np.asarray(collapsed.centres.means).mean(0)
    sizes = np.linalg.norm(centred, axis=1)
    np.testing.assert_allclose((centred @ centred.T / np.outer(sizes, sizes))[~np.eye(classes, dtype=bool)],
                               -1 / (classes - 1), atol=1e-6)


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
def test_small_scatter_around_large_means_keeps_its_digits(noise):
    rng = np.random.default_rng(1)
    labels = (np.arange(600) % 3).astype(np.int32)
    features = (40 + 10 * simplex(3, 6)[labels] + noise * rng.normal(size=(600, 6))).astype(np.float32)
    collapsed = collapse(features, labels, np.eye(6, 3, dtype=np.float32))
    truth = by_hand(features, labels, np.eye(6, 3))
    np.testing.assert_allclose(collapsed.nc1, truth["nc1"], rtol=1e-3)  # features hold 7 digits, and so does this truth


def test_order_scale_and_rotation_of_features_change_nothing():
    features, labels, weights, _ = example(3)
    order = np.random.default_rng(3).permutation(N)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 6)))[0].astype(np.float32)
    first = collapse(features, labels, weights)._asdict()
    for other in (collapse(features[order], labels[order], weights),
                  collapse(1000 * features, labels, weights), collapse(features @ turn, labels, turn.T @ weights)):
        assert_close(other, first, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("features, where", [(np.zeros((6, 4)), None), (np.ones((6, 4)), None),
                                             (np.eye(6, 4), np.arange(6) % 2 == 0)])
def test_what_is_not_defined_is_nan(features, where):
    labels = np.arange(6, dtype=np.int32) % 2
    collapsed = collapse(features.astype(np.float32), labels, np.eye(4, 2, dtype=np.float32), where=where)
    assert np.isnan(collapsed.nc1) and np.isnan(collapsed.nc3)


def test_centres_of_other_examples_judge_nc4():
    features, labels, weights, _ = example(3)
    others = example(3, seed=9, noise=2.0)[0]
    given = jax.jit(lambda x, y: class_means(lambda _, x: x, None, Sample(x, y), 3, piece=7))(features, labels)
    means = np.stack([features[labels == c].mean(0, dtype=np.float64) for c in range(3)])
    np.testing.assert_allclose(given.means, means, rtol=1e-5)
    nearest = np.argmin(((others[:, None] - means) ** 2).sum(2), 1)
    judged, alone = (collapse(others, labels, weights, centres=centres) for centres in (given, None))
    np.testing.assert_allclose(judged.nc4, np.mean(nearest != np.argmax(others @ weights, 1)))
    assert judged.nc4 != alone.nc4 and judged.nc1 == alone.nc1


def test_devices_that_share_the_rows_give_the_same():
    features, labels, weights, _ = example(3)
    mesh = row_mesh(4)
    shared = compile_on(lambda x, y, w: neural_collapse(lambda _, x: x, None, Sample(x, y), Classifier(w), piece=7,
                                                        mesh=mesh), mesh)
    assert_close(shared(features, labels, weights), collapse(features, labels, weights)._asdict(), rtol=1e-5)


@pytest.mark.parametrize("make", [
    lambda: small_network(3, biases=True, conv="lax"), lambda: small_network(3, batch_norm=True, conv="lax"),
    lambda: from_flax(DenseNetBC(3, (1, 1), 3, 0.5, 5, biases=True, conv="lax"), batched=True)],
    ids=["biases", "batch_norm", "densenet"])
def test_features_and_the_classifier_give_the_logits_and_cost_nothing_elsewhere(make, monkeypatch):
    network, rng = make(), np.random.default_rng(1)
    x = rng.normal(size=(5, 8, 8, 3)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    params, stats = jax.tree.map(lambda leaf: rng.uniform(0.2, 0.6, leaf.shape).astype(np.float32), shapes)
    features, logits = jax.jit(lambda *a: (network.features(*a), network.logits(*a)))(params, stats, x)
    weights, biases = classifier(params)
    assert features.shape == (5, weights.shape[0]) and features.dtype == jnp.float32
    np.testing.assert_allclose(features @ weights + biases[None], logits, rtol=2e-5)

    def programs():
        return [str(jax.make_jaxpr(lambda *a: call(*a))(params, stats, x, *more))
                for call, more in ((network.forward, (jnp.ones(5),)), (network.logits, ()))]

    sown = programs()
    monkeypatch.setattr(nn.Module, "sow", lambda *args, **kwargs: False)
    assert programs() == sown
    with pytest.raises(ValueError, match="self.sow"):
        network.features(params, stats, x)


@pytest.mark.parametrize("label", [-1, 2, 100])
def test_a_label_out_of_range_makes_nothing_plausible_unless_its_example_does_not_count(label):
    x, labels = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32), np.array([0, 1, 0, 1, 0, label])
    weights, apply_fn = jnp.ones((3, 2)), lambda p, x: x
    collapsed = neural_collapse(apply_fn, None, Sample(x, labels), Classifier(weights))
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(collapsed))
    left_out = neural_collapse(apply_fn, None, Sample(x, labels, np.arange(6) < 5), Classifier(weights))
    assert np.isfinite(left_out.nc1)


@pytest.mark.parametrize("change,message", [
    ({"labels": np.eye(6, dtype=int)}, "one-hot"), ({"labels": np.zeros(6)}, "expected integer labels"),
    ({"where": np.ones(6, int)}, "where"), ({"weights": jnp.ones(3)}, "classifier"),
    ({"biases": jnp.ones(3)}, "classifier"),
    ({"weights": jnp.ones((4, 2))}, "features"), ({"apply_fn": lambda p, x: (x, x)}, "features.*tuple"),
    ({"apply_fn": lambda p, x: x[:, None]}, "features")])
def test_what_does_not_fit_is_refused_in_our_words(change, message):
    arguments = {"apply_fn": lambda p, x: x, "images": jnp.ones((6, 3)), "labels": np.arange(6) % 2,
                 "weights": jnp.ones((3, 2))}
    arguments |= change
    sample = Sample(arguments["images"], arguments["labels"], arguments.get("where"))
    with pytest.raises(InputError, match=message):
        neural_collapse(arguments["apply_fn"], None, sample, Classifier(arguments["weights"], arguments.get("biases")))
