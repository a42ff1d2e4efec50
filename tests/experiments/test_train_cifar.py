"""The main job on real CIFAR-10, where a data folder is named."""

import numpy as np
import pytest
from helpers.data import cifar_folder

from margin_jax.config import default_config
from margin_jax.experiments.train import train
from margin_jax.run_folder import read as records


@pytest.mark.cifar
@pytest.mark.slow
def test_two_epochs_of_real_cifar2_beat_chance_by_far_and_record_every_margin(tmp_path):
    config = default_config()
    config.update({"epochs": 2, "data": {"name": "cifar2", "dir": cifar_folder()}})
    summary = train(config, tmp_path / "run")
    assert summary["final"]["test_error"] < 25  # chance is 50
    stored = records.read_margins(tmp_path / "run")
    assert stored.margins.shape == (2, 10_000) and np.isfinite(stored.margins).all()
    assert stored.ids.max() > 10_000 and (np.diff(stored.ids) > 0).all()  # ids of CIFAR-10, not positions
    assert np.bincount(stored.labels).tolist() == [5000, 5000]
