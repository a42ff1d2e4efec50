"""The neural collapse that a run records: when, and of what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.interruptions import params_of
from helpers.reference_collapse import NUMBERS, by_hand
from helpers.runs import run_config

from margin_jax.data.load import load_data
from margin_jax.data.transforms import channel_statistics
from margin_jax.errors import InputError
from margin_jax.experiments.train import train
from margin_jax.models.network import make_network
from margin_jax.run_folder import read as records
from margin_jax.run_folder import tables as columns
from margin_jax.validation import validate_sweep


@pytest.fixture(name="run", scope="module")
def _run(data, tmp_path_factory):
    """A run with a removal after its fourth epoch, and its config."""
    config = run_config(data, compress__keep=9, compress__balanced=True, compress__epochs=3, record__collapse_every=3,
                        record__every=2)
    path = tmp_path_factory.mktemp("collapse") / "run"
    train(config, path)
    return config, path


def test_a_record_at_multiples_and_where_a_phase_ends(run):
    _, path = run
    table = records.read_collapse(path)
    assert tuple(table) == columns.COLLAPSE and table["epoch"].dtype == np.int64
    assert table["epoch"].tolist() == [4, 6, 7]  # 3 is no record; 4 and 7 are the ends
    assert all(np.isfinite(column).all() for column in table.values())


def test_the_last_row_is_that_of_the_network_on_the_kept_examples(run):
    config, path = run
    dataset = load_data("npz", data_dir=config.data.dir)
    params = params_of(path)
    network = make_network(config.model, 3, jax.default_backend())
    mean, std = channel_statistics(dataset.train.images, np.ones(30, bool))

    @jax.jit
    def features(images):
        return network.features(params, {}, (images.astype(jnp.float32) - mean) / std)

    with jax.numpy_rank_promotion("allow"):
        train_features, test_features = (np.asarray(features(s.images)) for s in (dataset.train, dataset.test))
    weights, mask = np.asarray(params["dense"]["kernel"]), records.read_mask(path)["mask"]
    truth = by_hand(train_features, dataset.train.labels, weights, where=mask)
    of_test = by_hand(test_features, dataset.test.labels, weights)
    row = {name: column[-1] for name, column in records.read_collapse(path).items()}
    for name in NUMBERS:
        np.testing.assert_allclose(row[name], truth[name], rtol=2e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(row["nc1_test"], of_test["nc1"], rtol=2e-3)
    kept = dataset.train.labels[mask]
    means = np.stack([train_features[mask][kept == c].mean(0) for c in range(3)])
    nearest = np.argmin(((test_features[:, None] - means) ** 2).sum(2), 1)
    np.testing.assert_allclose(row["nc4_test"], np.mean(nearest != np.argmax(test_features @ weights, 1)), atol=1e-6)


def test_without_the_key_there_is_no_table_and_a_sweep_refuses_it(run, data):
    config, path = run
    with pytest.raises(InputError, match="record.collapse_every"):
        records.read_collapse(path.parent)
    with pytest.raises(InputError, match="record.collapse_every should be 0 in a sweep"):
        validate_sweep(run_config(data, record__collapse_every=1))
