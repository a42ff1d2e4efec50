"""Every mistake in a config gets a sentence with the key, what was expected and what came."""

import copy
import importlib
import pathlib
import re

import numpy as np
import pytest

from margin_jax.config import (
    default_config,
    flatten,
    validate,
    validate_compression,
    validate_stability,
    validate_sweep,
    validate_with_data,
)
from margin_jax.errors import InputError
from margin_jax.experiments.sweep_members import members


def with_value(key, value):
    config = default_config().to_dict()
    *sections, last = key.split(".")
    inner = config
    for section in sections:
        inner = inner[section]
    inner[last] = value
    return config


def test_defaults_are_valid_and_stay_as_they_are():
    config = default_config()
    before = copy.deepcopy(config.to_dict())
    validate(config)
    assert config.to_dict() == before


@pytest.mark.parametrize("key,value,message", [
    ("batchsize", 5, "no key 'batchsize'; the nearest is 'batch_size'"),
    ("optimizer.learningrate", 0.1, "nearest is 'optimizer.learning_rate'"),
    ("epochs", "ten", "epochs should be of type int"),
    ("epochs", 10.0, "epochs should be of type int"),
    ("shuffle", 1, "shuffle should be of type bool"),
    ("seed", True, "seed should be of type int"),
    ("optimizer.learning_rate", "0.1", "learning_rate should be of type float"),
    ("model", 3, "model"),
    ("epochs", 0, "epochs should be >= 1, got 0"),
    ("batch_size", -1, "batch_size should be >= 1, or 0 for full gradient descent"),
    ("micro_batch", -1, "micro_batch should be >= 0"),
    ("seed", -1, "seed should be in"),
    ("model.init_std", 0.0, "init_std should be > 0"),
    ("model.init_std", -0.1, "init_std should be > 0"),
    ("optimizer.learning_rate", 0.0, "learning_rate should be > 0"),
    ("optimizer.learning_rate", float("nan"), "learning_rate should be a finite number"),
    ("optimizer.momentum", 1.0, "momentum should be in"),
    ("optimizer.name", "lion", "should be one of sgd, adam, got 'lion'"),
    ("model.name", "vit", "should be one of"),
    ("model.conv", "fft", "should be one of"),
    ("data.name", "imagenet", "should be one of"),
    ("data.random_fraction", 1.5, "should be in"),
    ("model.widths", (), "one or more whole numbers"),
    ("model.widths", (4, 0), "one or more whole numbers"),
    ("model.widths", (4, 2.5), "one or more whole numbers"),
    ("compress.keep", -5, "keep should be >= 0"),
    ("compress.rule", "middle", "should be one of"),
    ("rho.mode", "batch_norm", "only with model.batch_norm=True"),
    ("rho.p", 0.5, "rho.p should be >= 1"),
    ("gamma.relative", (0.0,), "numbers > 0"),
    ("compress.ids", (1.5,), "whole numbers"),
])
def test_a_mistake_is_named(key, value, message):
    with pytest.raises(InputError) as error:
        validate(with_value(key, value))
    assert message in str(error.value)


def test_a_missing_key_is_named():
    config = default_config().to_dict()
    del config["optimizer"]["momentum"]
    with pytest.raises(InputError, match="missing optimizer.momentum"):
        validate(config)


@pytest.mark.parametrize("key,value", [("optimizer.learning_rate", 1), ("model.widths", [3, 4]),
                                       ("rho.p", float("inf"))])
def test_harmless_forms_pass(key, value):
    validate(with_value(key, value))


def test_ids_must_be_as_many_as_are_kept():
    config = with_value("compress.rule", "ids")
    config["compress"] |= {"keep": 3, "ids": (1, 2)}
    with pytest.raises(InputError, match="the 3 ids of compress.keep"):
        validate(config)
    validate(config | {"compress": config["compress"] | {"ids": (1, 2, 5)}})


@pytest.mark.parametrize("key", ["compress.keep", "batch_size"])
def test_no_more_than_the_training_examples(key):
    validate_with_data(with_value(key, 100), np.arange(100))
    with pytest.raises(InputError, match=f"{key} should be at most the 99 training examples, got 100"):
        validate_with_data(with_value(key, 100), np.arange(99))


def test_flatten_gives_dotted_keys():
    flat = flatten({"a": {"b": {"c": 1}}, "d": (1, 2)})
    assert flat == {"a.b.c": 1, "d": (1, 2)}


CONFIGS = [*sorted(path.stem for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py")),
           "fig04:cifar2", "table1:densenet"]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_experiment_is_valid_and_names_its_command(name):
    module, _, argument = name.partition(":")
    config = importlib.import_module(f"configs.{module}")
    given = config.get_config(*filter(None, [argument]))
    validate(given)
    script = re.search(rf"python launch/(\w+)\.py --config=configs/{module}\.py", config.__doc__)[1]
    compressed = bool(given.compress.mode != "immediate" or given.compress.keeps)
    assert compressed == (script == "compress")
    if script == "compress":
        validate_compression(given)
    if script == "stability":
        validate_stability(given)
    if script == "sweep":
        validate_sweep(given)
        assert len(members(given)) == given.sweep.networks
