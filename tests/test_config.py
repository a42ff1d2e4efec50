"""Every mistake in a config gets a sentence with the key, what was expected and what came."""

import copy
import importlib
import json
import math
import pathlib
import re

import numpy as np
import pytest
from helpers.commands import launch

from margin_jax.config import default_config, flatten
from margin_jax.errors import InputError
from margin_jax.experiments.sweep_members import members
from margin_jax.run_folder.write import RunFolder, difference, restored, storable
from margin_jax.validation import (
    validate,
    validate_compression,
    validate_stability,
    validate_sweep,
    validate_with_data,
)


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
    ("compress.rule", "middle", "should be a rule of smallest, "),
    ("rho.mode", "batch_norm", "only with model.batch_norm=True"),
    ("rho.p", 0.5, "rho.p should be >= 1"),
    ("gamma.relative", (0.0,), "numbers > 0"),
    ("compress.ids", (1.5,), "whole numbers"),
    ("figures", (1, 2), "figures should be names of figures, got (1, 2)"),
    ("figures", ([],), "figures should be made of plain numbers or texts"),
    ("devices", 20_000, "devices should be at most 256, got 20000"),
    ("devices", "2", "devices should be of type int"),
    ("devices", (2,), "devices should be of type int"),
    ("compress.controls", (["frozen"], ["random"]), "controls should be made of plain numbers or texts"),
    ("compress.controls", ({"frozen": 1},), "controls should be made of plain"),
    ("compress.controls", ("frozen", 3), "controls should be some of"),
    ("compress.schedule", ((1, (2,)),), "schedule should be pairs of whole numbers"),
    ("compress.schedule", ((10**40, 1),), "schedule should be at most 2147483647"),
    ("sweep.networks", 10**40, "networks should be at most 100000"),
    ("sweep.learning_rates", (10**400,), "learning_rates should be at most"),
    ("optimizer.learning_rate", 10**400, "learning_rate should be at most"),
    ("epochs", 2**31, "epochs should be at most 2147483647"),
    ("model.widths", (10**9,), "widths should be at most 65536"),
    ("model.widths", (1,) * 1001, "widths should be at most 1000 numbers"),
    ("compress.ids", (2**63,), "ids should be at most 9223372036854775807"),
    ("seed", 2**32, "seed should be at most 4294967295"),
    ("gamma.absolute", (float("inf"),), "numbers > 0"),
    ("gamma.absolute", (float("nan"),), "numbers > 0"),
    ("sweep.weight_decays", (float("nan"),), "distinct numbers >= 0"),
    ("rho.p", float("nan"), "rho.p should be a finite number"),
    ("rho.p", -float("inf"), "rho.p should be a finite number"),
    ("model.init_std", 1e-320, "init_std should be > 0, in 1e-37..1e38"),
    ("sweep.init_stds", (1e-320, 1.0), "standard deviation"),
    ("data.classes", (1.5, 2), "names or numbers of classes"),
    ("data.dir", "a\0b", "dir should be text that can be written to a file"),
    ("stability.base", "\udc80", "base should be text that can be written to a file"),
])
def test_a_mistake_is_named(key, value, message):
    with pytest.raises(InputError) as error:
        validate(with_value(key, value))
    assert message in str(error.value)


@pytest.mark.parametrize("key", ["sweep.networks", "optimizer.learning_rate", "data.name", "gamma.absolute"])
def test_a_value_of_any_length_gives_a_short_message(key):
    for value in (10**5000, "x" * 10**6, (10**5000,) * 10**4):  # no str() of the first
        with pytest.raises(InputError, match=f"{key} should be") as error:
            validate(with_value(key, value))
        assert len(str(error.value)) < 500


@pytest.mark.parametrize("config", [None, 3, "config", [("epochs", 3)]])
def test_what_is_no_config_is_refused(config):
    with pytest.raises(InputError, match="expected a ConfigDict or dict"):
        validate(config)


@pytest.mark.parametrize("key,value", [("rho.p", math.inf), ("rho.p", 3.5), ("data.dir", "inf"), ("figures", ("a",))])
def test_a_config_comes_back_from_json_as_it_was(key, value):
    config = with_value(key, value)
    text = json.dumps(storable(config), allow_nan=False)
    assert restored(json.loads(text)) == json.loads(json.dumps(config))
    assert config == with_value(key, value)


def test_infinity_is_found_again_in_a_run_folder_also_where_it_was_null(tmp_path):
    config = with_value("rho.p", math.inf)
    with RunFolder(tmp_path) as folder:
        folder.start({"config": config, "data": {"mean": [math.nan]}})
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["config"]["rho"]["p"] == "inf" and stored["data"]["mean"] == [None]
    assert difference(stored["config"], config) == []
    assert difference(stored["config"], with_value("rho.p", 2.0)) == ["  rho.p: inf -> 2.0"]
    stored["config"]["rho"]["p"] = None  # as earlier versions wrote it
    assert difference(stored["config"], config) == []


@pytest.mark.parametrize("overrides, message", [
    (["--config.gamma.absolute=0.5", "--config.gamma.absolute=(0.7,)"],
     "--config.gamma.absolute is given more than once; write all of its values at once"),
    (["--config.epochs=3", "--config.epochs=4", "--config.devices=20000"], "devices should be at most 256, got 20000"),
])
def test_a_mistake_on_the_command_line_leaves_nothing_and_no_traceback(tmp_path, overrides, message):
    done = launch("train.py", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'run'}", *overrides)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


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
