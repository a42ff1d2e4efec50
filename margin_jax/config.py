"""Every key of a config with its default.

Experiments start from `default_config()`, change some values and are overridden on the command line. A config is never
changed by the code that reads it. `margin_jax.validation` holds what values a key may have.
"""

from typing import Any

from ml_collections import ConfigDict

# fig. 4: (until, step): leave out `step` at a time until `until` are left.
PAPER_SCHEDULE = ((10_000, 5_000), (1_000, 1_000), (100, 100), (10, 10), (1, 1))


def default_config() -> ConfigDict:
    """The defaults: the paper's ConvNet and optimiser (section 3) on the bundled digits."""
    return ConfigDict({
        "seed": 0,  # initial weights and data order
        "epochs": 100,  # at most this many before a removal
        "batch_size": 50,  # 0: full gradient descent
        "shuffle": False,  # True: a new order every epoch; the paper did not shuffle
        "micro_batch": 0,  # most rows at once where a step may be cut into pieces (no BatchNorm); 0: by backend
        "devices": 0,  # among which the rows of a step are shared out; 0: on CPU by batch_size, else 1
        "data": _data(),
        "model": _model(),
        "optimizer": {
            "name": "sgd",  # or "adam"
            "learning_rate": 0.01,
            "momentum": 0.9,  # sgd
            "weight_decay": 0.0,  # L2, on all parameters
        },
        "stop": {
            # Or "separation", "convergence": stop `after` epochs past data separation or margin convergence, and at
            # `epochs` at the latest.
            "rule": "epochs",
            "after": 0,
            # Margins have converged when, data being separated, the `smallest` smallest margins of a recorded epoch and
            # of the one before share at least `overlap` of their ids, `times` times in a row.
            "smallest": 200,
            "overlap": 0.9,
            "times": 5,
        },
        "compress": _compress(),
        "score": _score(),
        "sweep": _sweep(),
        "stability": _stability(),
        "rho": {
            "mode": "default",  # "all", "conv", "batch_norm"; default: batch_norm with BatchNorm, all without
            "norm": "frobenius",  # "spectral", "p"
            "p": 2.0,
        },
        "gamma": {
            "absolute": (0.01, 0.1),  # the paper's, in normalised margin
            "relative": (0.1, 0.5, 1.0),  # multiples of the network's own median normalised margin
        },
        "record": _record(),
        "figures": (),  # of the paper that launch/train.py and launch/plot.py draw of a run beside the usual ones
        "checkpoint_seconds": 30.0,  # at least this long between checkpoints; 0: every epoch
        "log_every_seconds": 5.0,  # plain progress lines where the output is no terminal
    })


def _data() -> dict[str, Any]:
    """Which examples, and what becomes of their pixels and labels."""
    return {
        "name": "digits",  # one of margin_jax.data.load.NAMES
        "dir": "",  # TFDS folder, official archive's folder or .npz; else the environment's TFDS_DATA_DIR
        "cache_dir": "",  # decoded arrays; "" is the user's cache folder
        "classes": (),  # names or numbers of the classes to keep, relabelled in this order; () keeps all
        "examples": 0,  # training examples to keep, the first of each class, for trials; 0: all
        "scaling": "channel",  # pixels: mean 0, std 1 per channel; "half": (x - 0.5)/0.5; "unit": [0, 1]
        "random_fraction": 0.0,  # share of training labels replaced by uniformly random ones
        "random_seed": 0,
    }


def _model() -> dict[str, Any]:
    """The network; configs/networks.py has two by name."""
    return {
        "name": "convnet",  # "densenet", or "package.module:function", which gives a Flax module for a class count
        "widths": (16, 32, 64, 128),
        "kernel": 3,  # convnet: pixels along one side of every convolution's kernel
        "strides": (),  # convnet: of each convolution; () is 2 for all
        "padding": "same",  # convnet: (kernel - 1)/2 zero pixels around every image, or "valid": none
        "pooling": (),  # convnet: numbers of the convolutions, from 0, after which there is a 2x2 max-pooling
        "dense": (),  # convnet: widths of hidden dense layers
        "batch_norm": False,  # convnet; densenet always has it
        "biases": False,  # convnet: of every layer; densenet: of the dense layer
        "blocks": (6, 12, 12, 16),  # densenet: layers of each dense block
        "growth": 12,  # densenet: channels that a layer adds
        "reduction": 0.5,  # densenet: share of the channels that a transition keeps
        "stem": 0,  # densenet: channels of the first convolution; 0: twice the growth
        "init": "pytorch",  # or "normal" with init_std
        "init_std": 0.03,
        "conv": "auto",  # "patches", "tiled", "lax"; auto: by backend
    }


def _record() -> dict[str, Any]:
    """What is recorded, and how often."""
    return {
        "every": 1,  # epochs between records of margins and test error
        # Recorded margins are kept on disk at multiples of this epoch, at separation, convergence and the end.
        "margins_every": 1,
        # Neural collapse is taken at recorded multiples of this epoch, at separation and the end; 0: never.
        "collapse_every": 0,
        "dense_below": 0.01,  # until separation, also record where the epoch's own error is at most this share
        "piece": 0,  # rows at once in the pass over all data; 0: 50 on CPU, 1000 elsewhere
    }


def _compress() -> dict[str, Any]:
    """What a removal leaves out and what follows; launch/train.py reads the first block alone."""
    return {
        "keep": 0,  # 0: no removal; else the count kept when the stop rule is met
        # Of margin_jax.theory.selection.RULES; "el2n@20": by its score after epoch 20, with score.networks > 0.
        "rule": "smallest",
        "balanced": False,  # class by class, in equal shares
        "ids": (),  # for the rule "ids"
        "difficulty": "aum",  # score of the rules "window" and "stratified", of selection.HARDEST_IS_LARGEST
        "hardest": 0.1,  # share of the examples, the hardest, that these two leave out
        "epochs": 50,  # trained on after the removal; continuous: at most this many after each one
        # launch/compress.py
        "mode": "immediate",  # "continuous", "grid"
        "keeps": (),  # immediate: several counts, one compression each; () is `keep` alone
        "seeds": (),  # one network each; () is `seed` alone
        "init_stds": (),  # continuous: networks with these standard deviations of normal initial weights; () is `model`
        "optimizers": (),  # continuous: networks trained with each, before and after; () is `optimizer` alone
        "base": "",  # folder of the networks trained before the removal, shared by experiments; "": in the work folder
        # Those below, any rule, such as "el2n@20" or "window+balanced", and in grids "full_updates": full data at a
        # cell's own settings, for as many updates as its rules have.
        "controls": ("frozen", "random", "largest", "balanced", "scratch", "full"),
        "optimizer": "",  # after the removal; "": as before; of a grid in scope "whole_run" alone, as the next two
        "learning_rate": 0.0,  # after the removal; 0: as before
        "batch_size": -1,  # after the removal; -1: as before, 0: full gradient descent
        # Updates after the removal, rounded up to whole epochs; 0: `epochs`, for which a grid's full data go on always.
        "updates": 0,
        "record_every": 0,  # record.every after the removal, where an epoch costs less than its record; 0: as before
        "batch_norm": "tracked",  # running statistics after the removal; see margin_jax.models.network.BATCH_NORM
        "schedule": PAPER_SCHEDULE,  # continuous
        "grid_scope": "after",  # or "whole_run": a cell's settings hold before the removal too
        "grid_optimizers": ("sgd",),
        "grid_learning_rates": (0.1, 0.01, 0.001),
        "grid_batch_sizes": (200, 100, 50, 20, 10, 1),
    }


def _score() -> dict[str, Any]:
    """Where launch/compress.py takes the scores that its rules rank by."""
    return {
        "networks": 0,  # 0: of the network that is compressed; else means over so many networks of other seeds
        "seed": 1000,  # of the first of these; the others count up from it
        "epoch": -1,  # after which they are scored, 0 at initialisation; -1: where they meet the stop rule
        "window": 10,  # epochs of the rule "dual"
    }


def _sweep() -> dict[str, Any]:
    """Which networks launch/sweep.py trains: every combination of the values below, each with its own seeds."""
    return {
        "networks": 100,
        "seeds_per_std": 5,  # for each standard deviation; seeds count up from `seed`, none is used twice
        # Lowest and highest standard deviation of normal initial weights: as many, evenly spaced, as make up
        # `networks`. One value: all have it. (): all start from `model.init`, and differ in seed.
        "init_stds": (0.01, 0.05),
        "learning_rates": (),  # () is `optimizer.learning_rate` alone
        "weight_decays": (),  # () is `optimizer.weight_decay` alone
        "random_fractions": (),  # () is `data.random_fraction` alone
        "label_draws": "shared",  # draw `data.random_seed` of random labels for all; "by_seed": one for each seed
        "batch_norms": (),  # such as (True, False), networks with and without BatchNorm; () is `model.batch_norm` alone
        "train_loss": 0.0,  # networks are also compared where their loss first is at most this; 0: not
        "chunk": 0,  # networks trained at once by a process; 0: as many as fit its devices' memory
        "resamples": 1000,  # of the bootstrap
    }


def _stability() -> dict[str, Any]:
    """What launch/stability.py replaces: one training point of a separated network by one test point, many times."""
    return {
        "trials": 1000,  # for each choice; 0: none, the table of deletions alone
        "choices": ("smallest", "random", "largest"),  # which point leaves, by its margin at the separated network
        "pool": 1,  # smallest, largest: the point is one of as many; 1 is always the very smallest, as in the paper
        "epochs": 5,  # trained on, with the point and without it
        "base": "",  # folder of the separated networks, shared by experiments; "": in the work folder
        "chunk": 0,  # trials at once; 0: as many as fit the devices' memory, on a CPU 16 per core
        "deletions": (1, 20, 200),  # appendix B: how many points are deleted; () makes no such table
    }


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A config's values by dotted key; tuples stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if hasattr(value, "items") else {name: value})
    return flat
