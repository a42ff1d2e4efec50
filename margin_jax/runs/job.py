"""From a validated config to everything a run needs: data on the device and compiled functions."""

import importlib.metadata
import os
import platform
import subprocess
from typing import Any, NamedTuple

import jax
import numpy as np

import margin_jax
from margin_jax import data, validation
from margin_jax.data.split import Dataset, digest
from margin_jax.data.standardise import channel_statistics
from margin_jax.evaluate import Evaluate, make_evaluate
from margin_jax.models.build import make_network
from margin_jax.network import Network
from margin_jax.optimizers import make_optimizer
from margin_jax.state import Examples, TrainState, make_examples, make_state
from margin_jax.train import RunEpoch, make_run_epoch

PACKAGES = ("margin_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
EVALUATION_PIECE = {"cpu": 50}  # fits the cache of a core: pieces of 500 and more take half as long again
EVALUATION_PIECE_ELSEWHERE = 1000


class Job(NamedTuple):
    """What a run works with; `state` is the fresh network."""

    network: Network
    run_epoch: RunEpoch
    evaluate: Evaluate
    train: Examples
    test: Examples
    state: TrainState


def load_dataset(config: Any) -> Dataset:
    """Reads the data that the config names and checks the config against them; raises InputError."""
    section = config.data
    dataset = data.load(section.name, data_dir=section.dir, cache_dir=section.cache_dir, classes=tuple(section.classes),
                        random_fraction=section.random_fraction, random_seed=section.random_seed)
    validation.validate_with_data(config, dataset.train.ids)
    return dataset


def make_job(config: Any, dataset: Dataset) -> Job:
    """Builds network, optimiser and compiled functions, and moves the data to the device.

    Images are standardised per channel by the training rows that the run starts from, all of them; a removal later on
    leaves mean and std as they are, since it must not change the network's function.
    """
    backend = jax.default_backend()
    network = make_network(config.model, len(dataset.class_names), backend)
    section = config.optimizer
    optimizer = make_optimizer(section.name, section.learning_rate, section.momentum, section.weight_decay)
    mean, std = channel_statistics(dataset.train.images, np.ones(dataset.train.labels.size, bool))
    piece = config.record.piece or EVALUATION_PIECE.get(backend, EVALUATION_PIECE_ELSEWHERE)
    return Job(network, make_run_epoch(network, optimizer, config.shuffle), make_evaluate(network, piece),
               make_examples(dataset.train.images, dataset.train.labels, mean, std),
               make_examples(dataset.test.images, dataset.test.labels, mean, std),
               make_state(network, optimizer, dataset.train.images.shape[1:], config.seed))


def _git_revision() -> str:
    root = os.path.dirname(margin_jax.__file__)
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True,
                              text=True, check=False)
    except OSError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"


def describe(config: Any, dataset: Dataset, job: Job) -> dict[str, Any]:
    """What config.json holds: the resolved config, versions, device, revision, and what identifies the data."""
    return {
        "config": config.to_dict(),
        "versions": {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in PACKAGES}},
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind} x {jax.device_count()}",
        "git_revision": _git_revision(),
        "data": {"name": dataset.name, "class_names": list(dataset.class_names), "train": dataset.train.labels.size,
                 "test": dataset.test.labels.size, "image_shape": list(dataset.train.images.shape[1:]),
                 "mean": job.train.mean.tolist(), "std": job.train.std.tolist(), "digest": digest(dataset)},
    }
