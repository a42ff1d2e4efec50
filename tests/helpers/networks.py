"""Small networks and data sets for the tests."""

import functools

import jax
import numpy as np

from margin_jax.models.convnet import ConvNet
from margin_jax.models.network import Network, from_flax
from margin_jax.training.epoch import compile_epoch, make_plan
from margin_jax.training.state import Examples, examples_of_arrays, make_optimizer, make_state

WIDTHS = (4, 6)


def small_network(num_classes: int = 3, batch_norm: bool = False, **kwargs) -> Network:
    """A ConvNet of two convolutions; one object for one architecture, so that each program is traced once."""
    return _small_network(num_classes, batch_norm, **kwargs)


@functools.cache
def _small_network(num_classes: int, batch_norm: bool, **kwargs) -> Network:
    return from_flax(ConvNet(num_classes, WIDTHS, batch_norm, **kwargs), batch_norm)


def small_arrays(count: int, num_classes: int = 3, size: int = 8, channels: int = 3,
                 seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 images and labels in which every class occurs if count allows."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    return images, (rng.permutation(count) % num_classes).astype(np.int32)


def examples_of(images: np.ndarray, labels: np.ndarray) -> Examples:
    """Examples with a fixed standardisation, so that a subset is standardised as the whole."""
    channels = images.shape[-1]
    return examples_of_arrays(images, labels, np.linspace(100, 140, channels), np.linspace(50, 80, channels))


@functools.cache
def compiled(network: Network, shuffle: bool, optimizer: str, learning_rate: float, weight_decay: float,
             image_shape: tuple[int, ...]):
    """Optimiser, compiled epoch and a function seed -> state, shared by the tests: compiling is most of their time."""
    transform = make_optimizer(optimizer, learning_rate, 0.9, weight_decay)
    state = functools.cache(lambda seed: make_state(network, transform, image_shape, seed))
    return transform, compile_epoch(network, transform, shuffle), state


class Trainer:
    """A network in training, with the calls that tests need."""

    def __init__(self, network: Network, shuffle: bool = False, optimizer: str = "sgd", learning_rate: float = 0.05,
                 weight_decay: float = 0.0, piece_limit: int = 256, seed: int = 0, image_shape=(8, 8, 3),
                 fresh: bool = False) -> None:
        """`fresh` compiles anew, for tests that count programs."""
        self.network, self.piece_limit = network, piece_limit
        self.optimizer, self.run_epoch, state = compiled(network, shuffle, optimizer, learning_rate, weight_decay,
                                                         image_shape)
        if fresh:
            self.run_epoch = compile_epoch(network, self.optimizer, shuffle)
        self.state = jax.tree.map(jax.numpy.array, state(seed))  # a copy, since an epoch donates its state

    def epoch(self, examples: Examples, mask: np.ndarray, batch_size: int):
        """One epoch; returns its EpochStats."""
        plan, batch = make_plan(batch_size, int(mask.sum()), self.piece_limit, self.network.batched)
        self.state, stats = self.run_epoch(self.state, examples, jax.numpy.asarray(mask), jax.numpy.int32(batch), plan)
        return stats


def assert_trees_close(first, second, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Every leaf close, same structure."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def assert_trees_equal(first, second) -> None:
    """Every leaf equal bit for bit, same structure."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
