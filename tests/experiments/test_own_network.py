"""A network of the user's own in every job, named in the config; and what does not fit, before any compute."""

import json

import numpy as np
import pytest
from helpers.interruptions import compression, last_checkpoint, params_of
from helpers.networks import assert_trees_equal
from helpers.runs import run_config

import margin_jax as mj
from margin_jax.errors import InputError
from margin_jax.experiments.compress import compress
from margin_jax.experiments.job import load_dataset, make_job
from margin_jax.experiments.stability import stability
from margin_jax.experiments.sweep import sweep
from margin_jax.experiments.train import train

OWN, WIDTHS = "helpers.own_networks:", (16, 32, 64, 128)  # the default, which a network of one's own leaves as it is


def config_of(data, name, **changes):
    return run_config(data, model__name=OWN + name, **({"epochs": 3, "model__widths": WIDTHS} | changes))


def test_a_network_of_ones_own_trains_and_its_margins_are_its_own(data, tmp_path):
    config = config_of(data, "normalised")
    train(config, tmp_path / "run")
    run, params = mj.read_run(tmp_path / "run"), params_of(tmp_path / "run")
    assert run.config["model"]["name"] == OWN + "normalised" and set(params) == {"hidden", "between", "dense"}
    dataset = load_dataset(config)
    job = make_job(config, dataset)
    x = (dataset.train.images - np.asarray(job.train.mean)) / np.asarray(job.train.std)
    stats = last_checkpoint(tmp_path / "run")["state"]["batch_stats"]["between"]
    hidden = x.reshape(30, -1) @ params["hidden"]["kernel"]
    hidden = (hidden - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["between"]["scale"] + params["between"][
        "bias"]
    logits = np.maximum(hidden, 0) @ params["dense"]["kernel"]
    true = logits[np.arange(30), dataset.train.labels]
    logits[np.arange(30), dataset.train.labels] = -np.inf
    np.testing.assert_allclose(run.margins.margins[-1], true - logits.max(axis=1), rtol=1e-4, atol=1e-5)
    scale, bias = params["between"]["scale"], params["between"]["bias"]
    dense = (np.linalg.norm(params[layer]["kernel"]) for layer in ("hidden", "dense"))
    rho = np.sqrt((scale**2).sum() + (bias**2).sum()) * np.prod(list(dense))
    np.testing.assert_allclose(run.metrics["rho"][-1], rho, rtol=1e-5)


def test_rows_are_shared_out_where_the_function_takes_their_axis(data, tmp_path):
    for devices in (1, 2):
        config = config_of(data, "convnet", devices=devices)
        train(config, tmp_path / str(devices))
        named = run_config(data, epochs=3, devices=devices, model__widths=(4,), model__batch_norm=True)
        train(named, tmp_path / f"named_{devices}")
        assert_trees_equal(params_of(tmp_path / str(devices)), params_of(tmp_path / f"named_{devices}"))
    with pytest.raises(InputError, match="devices should be 0 or 1 .* has to take rows_axis"):
        train(config_of(data, "normalised", devices=2), tmp_path / "many")
    train(config_of(data, "normalised", devices=0, batch_size=30), tmp_path / "alone")
    assert json.loads((tmp_path / "alone" / "config.json").read_text())["device"].endswith("x 1")


def test_every_job_takes_a_network_of_ones_own(data, tmp_path):
    name = OWN + "sowing"
    compress(compression(data, model__name=name, model__widths=WIDTHS, compress__epochs=1,
                         compress__controls=("kcenter", "kkt")), tmp_path / "compress")
    sweep(run_config(data, model__name=name, model__widths=WIDTHS, epochs=2, sweep__networks=2, sweep__init_stds=(),
                     sweep__resamples=10), tmp_path / "sweep")
    stability(compression(data, model__name=name, model__widths=WIDTHS, compress__keep=0,
                          stability__trials=2, stability__epochs=1), tmp_path / "stability")


@pytest.mark.parametrize(("name", "message"), [
    ("pair", r"one for each class, of B = 3 images, got tuple; .* nothing else"),
    ("classes", r"got int32 \(3,\)"), ("few", r"got float32 \(3, 2\)"),
    ("flat", "does not take them"), ("number", "returns a flax.linen Module .* got int"),
    ("plain_call", "called as module\\(x, train, weights\\)"), ("dropping", "without random numbers in its steps"),
    ("nothing", "has none called 'nothing'"),
])
def test_a_network_that_does_not_fit_is_refused_before_any_compute(data, tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        train(config_of(data, name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ({"model__name": "no_such_module:f"}, "module that Python finds, got none called 'no_such_module'"),
    ({"model__name": "resnet"}, "one of convnet, densenet, or package.module:function"),
    ({"model__name": "helpers.own_networks:"}, "one of convnet, densenet, or package.module:function"),
    ({"model__name": OWN + "perceptron", "model__widths": (8,)}, "whose function does not see it"),
    ({"model__name": OWN + "perceptron", "rho__mode": "conv"}, "needs layers that these parameters do not have"),
    ({"model__name": OWN + "perceptron", "record__collapse_every": 1}, "sows the input of its last dense layer"),
])
def test_settings_that_do_not_fit_it_are_refused(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train(run_config(data, **({"model__widths": WIDTHS} | changes)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sweep_of_standard_deviations_is_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"sweep.init_stds should be \(\) with model.name"):
        sweep(run_config(data, model__name=OWN + "perceptron", model__widths=WIDTHS), tmp_path / "run")
