"""From a config to everything a run needs: checks, data on the device, compiled functions.

All that changes in a run is one pytree, the `Snapshot`.
"""

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from absl import logging
from jax.sharding import Mesh

import margin_jax
from margin_jax.backend import evaluation_piece, training_devices, training_piece
from margin_jax.data.dataset import Dataset, Split, digest, sorted_by_class
from margin_jax.data.load import load_data
from margin_jax.data.transforms import pixel_scaling
from margin_jax.errors import InputError
from margin_jax.experiments import schedule
from margin_jax.experiments.schedule import Progress
from margin_jax.models.network import Network, check_network, make_network, shares_rows, with_batch_norm
from margin_jax.parallel import ROWS, replicate, row_mesh, size_of
from margin_jax.run_folder import write
from margin_jax.theory.norms import rho_factors
from margin_jax.theory.scores import Dynamics, fresh_dynamics
from margin_jax.training.ensemble import make_ensemble
from margin_jax.training.epoch import RunEpoch, compile_epoch
from margin_jax.training.evaluate import Evaluate, make_evaluate
from margin_jax.training.state import Examples, TrainState, examples_of_arrays, make_optimizer, make_state
from margin_jax.validation import validate, validate_with_data

PACKAGES = ("margin_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Job(NamedTuple):
    """What a run works with.

    Attributes:
      network, optimizer, run_epoch, evaluate: of one architecture.
      mesh: the devices among which rows are shared out, None for one.
      micro_batch: most rows at once where a step may be cut into pieces.
      piece: rows at once in passes over all data.
      train, test: the data, on all those devices.
      state: the fresh network, on all those devices.
    """

    network: Network
    optimizer: optax.GradientTransformation
    run_epoch: RunEpoch
    evaluate: Evaluate
    mesh: Mesh | None
    micro_batch: int
    piece: int
    train: Examples
    test: Examples
    state: TrainState


def make_examples(split: Split, standardise_as: Examples | None = None, scaling: str = "channel",
                  white: float = 255.0) -> Examples:
    """Puts a split on the device, its pixels to be scaled inside the compiled functions.

    Args:
      split: images (N, H, W, C) and labels (N,), as `load_data` and `make_split` give them.
      standardise_as: the examples whose mean and standard deviation per channel are used, which for a test set are
        those of training; if absent they are those of `scaling`.
      scaling: of `data.transforms.SCALINGS`; "channel" takes them of `split`, in a pass over its pixels.
      white: the pixel value that stands for 1, as `Dataset.white`; "channel" does not use it.
    """
    if standardise_as is None:
        mean, std = pixel_scaling(split.images, scaling, white)
    else:
        mean, std = standardise_as.mean, standardise_as.std
    return examples_of_arrays(split.images, split.labels, mean, std)


def checked_data(config: Any, path: str | pathlib.Path, check: Callable[[Any], None]) -> Dataset:
    """The data of a job, new or to be continued, after all that can be refused without any compute.

    Args:
      config: of the job.
      path: its work folder.
      check: raises InputError for a config that this kind of job cannot use.

    Raises:
      InputError: bad config, data or work folder; nothing on disk has been touched.
    """
    validate(config)
    check(config)
    write.inspect(path, config)
    return load_dataset(config)


def load_dataset(config: Any) -> Dataset:
    """Reads the data that the config names and checks the config against them; raises InputError, and may warn."""
    section = config.data
    dataset = load_data(section.name, data_dir=section.dir, cache_dir=section.cache_dir, classes=tuple(section.classes),
                        examples=section.examples, random_fraction=section.random_fraction,
                        random_seed=section.random_seed)
    validate_with_data(config, dataset.train.ids)
    warning = sorted_by_class(dataset.train.labels)
    if warning and not config.shuffle and 0 < config.batch_size < dataset.train.labels.size:
        logging.warning("%s", warning)
    return dataset


def _kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, which gives what it has made for the same arguments before in this process.

    A program is traced and compiled once for all jobs of one architecture, such as the seeds of a loop over `mj.train`.
    One made without NaN traps would run without them.
    """
    made = functools.lru_cache(maxsize=16)(lambda trapped, *arguments: make(*arguments))
    return lambda *arguments: made(jax.config.jax_debug_nans, *arguments)


kept_optimizer, kept_ensemble = _kept(make_optimizer), _kept(make_ensemble)
_kept_epoch, _kept_evaluate = _kept(compile_epoch), _kept(make_evaluate)


def make_job(config: Any, dataset: Dataset, batch_norm: str = "tracked") -> Job:
    """Builds network, optimiser and compiled functions, and moves the data to the device.

    `batch_norm` is one of `network.BATCH_NORM`.

    Pixels are scaled as `data.scaling` says, by default standardised per channel by the training rows that the run
    starts from, all of them; a removal later on leaves mean and std as they are, since it must not change the network's
    function.
    """
    backend, section = jax.default_backend(), config.optimizer
    count = config.devices or training_devices(config.batch_size, backend, len(jax.local_devices()))
    if not shares_rows(config.model.name):
        if config.devices > 1:
            raise InputError(f"config: devices should be 0 or 1 with model.name={config.model.name!r}, got "
                             f"{config.devices}; to share out rows its function has to take rows_axis, over which "
                             "BatchNorm averages")
        count = 1
    if count > len(jax.local_devices()):
        raise InputError(f"config: devices should be at most the {len(jax.local_devices())} of this process, "
                         f"got {count}; 0 lets margin_jax choose")
    mesh = row_mesh(count)
    network = with_batch_norm(make_network(config.model, len(dataset.class_names), backend,
                                           rows_axis=ROWS if mesh else None), batch_norm)
    if ":" in config.model.name:
        check_own_network(config, dataset)
    optimizer = kept_optimizer(section.name, section.learning_rate, section.momentum, section.weight_decay)
    train = make_examples(dataset.train, scaling=config.data.scaling, white=dataset.white)
    test = make_examples(dataset.test, train)
    train, test = replicate(train, mesh), replicate(test, mesh)
    state = replicate(make_state(network, optimizer, dataset.train.images.shape[1:], config.seed), mesh)
    piece = config.record.piece or evaluation_piece(backend)
    return Job(network, optimizer, _kept_epoch(network, optimizer, config.shuffle, mesh),
               _kept_evaluate(network, piece, mesh), mesh, config.micro_batch or training_piece(backend), piece, train,
               test, state)


def check_own_network(config: Any, dataset: Dataset) -> None:
    """Sees before any compute that a network of the user's own fits data, rho and what is to be recorded of it.

    Raises:
      InputError: as of `models.network.check_network`, no layer of the kind that the mode of rho needs, or a network
        that does not say what neural collapse or the rule "kcenter" look at.
    """
    shape = dataset.train.images.shape[1:]
    network = make_network(config.model, len(dataset.class_names), jax.default_backend())
    check_network(network, shape, len(dataset.class_names))
    images = jax.ShapeDtypeStruct((1, *shape), jax.numpy.float32)
    params, batch_stats = jax.eval_shape(network.init, jax.random.key(0), images)
    jax.eval_shape(lambda params, batch_stats: rho_factors(params, config.rho.mode, config.rho.norm, config.rho.p,
                                                           batch_stats), params, batch_stats)
    rules = (config.compress.rule, *config.compress.controls)
    if config.record.collapse_every or any(named.startswith("kcenter") for named in rules):
        jax.eval_shape(network.features, params, batch_stats, images)


def _git_revision() -> str:
    root = os.path.dirname(margin_jax.__file__)
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True,
                              text=True, check=False)
    except OSError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, by name."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def describe(config: Any, dataset: Dataset, job: Job) -> dict[str, Any]:
    """What config.json holds: the resolved config, versions, device, revision, and what identifies the data."""
    return {
        "job": "train",
        "config": config.to_dict(),
        "versions": packages(),
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind} x {size_of(job.mesh)}",
        "git_revision": _git_revision(),
        "data": {"name": dataset.name, "class_names": list(dataset.class_names), "train": dataset.train.labels.size,
                 "test": dataset.test.labels.size, "image_shape": list(dataset.train.images.shape[1:]),
                 "mean": job.train.mean.tolist(), "std": job.train.std.tolist(), "digest": digest(dataset)},
    }


class Snapshot(NamedTuple):
    """All that changes in a run; what a checkpoint holds."""

    state: TrainState
    progress: Progress
    dynamics: Dynamics


def fresh_snapshot(job: Job, count: int, support: int) -> Snapshot:
    """The untrained network of `job`, with all `count` examples kept, the `support` smallest margins followed."""
    return Snapshot(job.state, schedule.fresh(count, support),
                    replicate(fresh_dynamics(count), job.mesh))


def placed(snapshot: Snapshot, job: Job) -> Snapshot:
    """A snapshot in host memory with copies of its state and dynamics on the devices of `job`."""
    return snapshot._replace(state=replicate(jax.tree.map(jax.numpy.array, snapshot.state), job.mesh),
                             dynamics=replicate(jax.tree.map(jax.numpy.array, snapshot.dynamics), job.mesh))


def on_host(snapshot: Snapshot) -> Snapshot:
    """A snapshot in host memory, safe from the donation of its buffers."""
    return jax.tree.map(lambda leaf: jax.device_get(leaf).copy() if isinstance(leaf, jax.Array) else leaf, snapshot)
