"""Checkpoints: what is saved comes back bit for bit under its names, also what earlier versions saved."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers.networks import assert_trees_equal

from margin_jax.errors import InputError
from margin_jax.run_folder.checkpoint import Checkpoints


class Pair(NamedTuple):
    weights: dict
    epoch: np.ndarray


def tree_of(epoch):
    weights = {"dense": {"kernel": np.random.default_rng(epoch).normal(size=(3, 2)).astype(np.float32)},
               "conv": {"kernel": jnp.arange(4.0) / 3}}
    return Pair(weights, np.int32(epoch)), [np.array([True, False]), np.float64(0.1)]


def like():
    (pair, rest) = tree_of(0)
    return Pair({"dense": {"kernel": np.zeros((3, 2), np.float32)}, "conv": {"kernel": np.zeros(4, np.float32)}},
                pair.epoch), rest


def test_the_newest_two_come_back_bit_for_bit_under_the_names_of_their_fields(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_epoch() is None
        for epoch in (1, 4, 9):
            checkpoints.save(epoch, tree_of(epoch))
        checkpoints.save(4, tree_of(4), "separation")
        assert checkpoints.latest_epoch() == 9 and checkpoints.latest_epoch("separation") == 4
    with Checkpoints(tmp_path) as checkpoints:
        for epoch, name in ((None, "latest"), (4, "latest"), (None, "separation")):
            restored = checkpoints.restore(like(), epoch, name)
            assert_trees_equal(restored, tree_of(9 if epoch is None and name == "latest" else 4))
            assert restored[0].weights["conv"]["kernel"].dtype == np.float32 and restored[1][1].dtype == np.float64
    folders = sorted(int(path.name) for path in (tmp_path / "latest").iterdir() if path.name.isdigit())
    assert folders == [4, 9]
    with np.load(tmp_path / "latest" / "9" / "default" / "arrays.npz") as file:
        np.testing.assert_array_equal(file["[0].weights['dense']['kernel']"], tree_of(9)[0].weights["dense"]["kernel"])


def test_an_existing_checkpoint_is_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree_of(1))
        checkpoints.save(1, tree_of(2))
        assert_trees_equal(checkpoints.restore(like()), tree_of(1))


def test_one_is_due_when_its_time_has_passed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.due(0.0) and not checkpoints.due(1e9)


def test_networks_that_earlier_versions_saved_are_read(tmp_path):
    (tmp_path / "latest").mkdir()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, create=False, enable_async_checkpointing=False)
    with ocp.CheckpointManager(tmp_path / "latest", options=options) as manager:
        for epoch in (3, 5):
            saved = tree_of(epoch)
            manager.save(epoch, args=ocp.args.StandardSave((
                saved[0]._replace(weights={"dense": saved[0].weights["dense"],
                                           "conv": {"kernel": np.asarray(saved[0].weights["conv"]["kernel"])}}),
                saved[1])))
    with Checkpoints(tmp_path) as checkpoints:
        assert_trees_equal(checkpoints.restore(like()), tree_of(5))
        checkpoints.save(7, tree_of(7))
        assert_trees_equal(checkpoints.restore(like(), 5), tree_of(5))
        assert_trees_equal(checkpoints.restore(like()), tree_of(7))


def test_a_checkpoint_of_other_names_is_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, (tree_of(1)[0], tree_of(1)[1], np.int32(0)))
        with pytest.raises(InputError, match="another version"):
            checkpoints.restore(like())
