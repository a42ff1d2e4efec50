"""Scores of other networks: means of single ones, taken where the rules ask, whatever interrupts them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.interruptions import SEPARATED, cells_of, compression, dying_in_turn, last_checkpoint, same_tables

import margin_jax as mj
from margin_jax.errors import DivergedError, InputError
from margin_jax.experiments.compress import compress
from margin_jax.experiments.job import load_dataset, make_job
from margin_jax.experiments.many_networks import ManyRun
from margin_jax.experiments.scoring import NetworkScores, mean_scores
from margin_jax.experiments.train import train
from margin_jax.run_folder import read as records
from margin_jax.run_folder.tables import read_kept_ids
from margin_jax.theory.selection import random_scores
from margin_jax.training.state import seed_keys, standardised

CONTROLS = ("el2n@2", "grand@0", "dual@4", "forgetting@3", "aum", "window", "stratified", "kcenter+balanced", "kkt",
            "largest", "random")
SCORING = {"score__networks": 2, "score__seed": 7, "score__window": 3, "compress__controls": CONTROLS}
CLOSE = {"rtol": 2e-4, "atol": 1e-6}


@pytest.fixture(name="done", scope="module")
def _done(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("done") / "run"
    compress(compression(data, **SCORING), path)
    return path


def arrays_of(path):
    """By network and score the values in the folder `scores`."""
    return {file.stem: {name: values for name, values in records.read_arrays(file).items() if "@" in name}
            for file in sorted((path / "scores").glob("*.npz"))}


def alone(data, tmp_path, seed, epochs):
    """Margins, functions and checkpoint of a network that is trained by itself; epochs None: to its stop rule."""
    changes = SEPARATED if epochs is None else SEPARATED | {"stop__rule": "epochs", "epochs": epochs}
    config = compression(data, **(changes | {"compress__keep": 0, "seed": seed}))
    path = tmp_path / f"alone_{seed}_{epochs}"
    if not path.exists():
        train(config, path)
    tree, job = last_checkpoint(path), make_job(config, load_dataset(config))

    def logits(params, images):
        return job.network.logits(params, {}, standardised(images, job.train))

    return path, tree, job, logits


@pytest.mark.parametrize("seed", [7, 8])
def test_scores_are_those_of_networks_trained_by_themselves(data, done, tmp_path, seed):
    found = arrays_of(done)[f"epochs_{seed}"] | arrays_of(done)[f"removal_{seed}"]
    _, tree, job, logits = alone(data, tmp_path, seed, 2)
    labels = np.asarray(job.train.labels)
    np.testing.assert_allclose(found["el2n@2"], mj.el2n(logits(tree["state"]["params"], job.train.images), labels),
                               **CLOSE)
    fresh = job.state.params
    np.testing.assert_allclose(found["grand@0"], mj.network_grand(logits, fresh, job.train.images, labels, 7), **CLOSE)
    path, tree, *_ = alone(data, tmp_path, seed, 3)
    seen = mj.Dynamics(**tree["dynamics"])
    np.testing.assert_array_equal(found["forgetting@3"], mj.forgetting(seen))
    losses = []
    for epoch in range(1, 5):
        _, tree, *_ = alone(data, tmp_path, seed, epoch)
        rows = logits(tree["state"]["params"], job.train.images)
        losses.append(-jax.nn.log_softmax(rows)[jnp.arange(labels.size), labels])
    np.testing.assert_allclose(found["dual@4"], mj.dual(np.exp(-np.stack(losses)), 3), **CLOSE)

    path, tree, *_ = alone(data, tmp_path, seed, None)
    assert records.read_json(path, "summary.json")["separation_epoch"] > 4
    margins = records.read_margins(path).margins[-1]
    np.testing.assert_allclose(found["margins@removal"], margins, **CLOSE)
    np.testing.assert_allclose(found["aum@removal"], mj.aum(mj.Dynamics(**tree["dynamics"])), **CLOSE)
    terms = mj.term_norms(logits, tree["state"]["params"], job.train.images, labels)
    np.testing.assert_allclose(found["kkt@removal"], mj.kkt_weights(margins, jax.device_get(terms)), rtol=2e-3)
    features = job.network.features(tree["state"]["params"], {}, standardised(job.train.images, job.train))
    assert ("kcenter+balanced@removal" in found) == (seed == 7)
    if seed == 7:
        np.testing.assert_array_equal(found["kcenter+balanced@removal"], mj.farthest_first(features, 6, labels))


def test_rules_rank_by_the_means_of_the_networks(data, done):
    first, second = ({**arrays_of(done)[f"epochs_{seed}"], **arrays_of(done)[f"removal_{seed}"]} for seed in (7, 8))
    dataset = load_dataset(compression(data))
    ids, labels = dataset.train.ids, dataset.train.labels
    order = random_scores(seed_keys(0)[2], ids.size)
    scores = {"smallest": "margins@removal", "largest": "margins@removal", "el2n@2": "el2n@2", "grand@0": "grand@0",
              "dual@4": "dual@4", "forgetting@3": "forgetting@3", "aum": "aum@removal", "window": "aum@removal",
              "stratified": "aum@removal", "kkt": "kkt@removal"}
    for rule, name in scores.items():
        mean = (first[name].astype(np.float64) + second[name]) / 2
        expected = mj.select(rule.partition("@")[0], mean, 6, labels, cut=mj.Cut("aum", 0.1, order=order))
        mask = records.read_mask(done / "seed_0" / f"{rule}_6")["mask"]
        np.testing.assert_array_equal(mask, expected, err_msg=rule)
    places = first["kcenter+balanced@removal"]
    np.testing.assert_array_equal(records.read_mask(done / "seed_0" / "kcenter+balanced_6")["mask"], places < 6)
    assert {row["rule"] for row in cells_of(done)} == {"smallest", *CONTROLS}


def test_one_network_scores_as_itself(data, tmp_path):
    """A network of the compressed seed would have scored its examples as the compression without scoring does."""
    config = compression(data, seed=1, **(SCORING | {"score__seed": 2, "score__networks": 1}))
    compress(config, tmp_path / "scored")
    compress(compression(data, seed=2, compress__controls=("aum", "window", "kkt", "kcenter+balanced")),
             tmp_path / "itself")
    for rule in ("smallest", "aum", "window", "kkt", "kcenter+balanced"):
        scored, itself = (records.read_mask(tmp_path / name / f"seed_{seed}" / f"{rule}_6")["mask"]
                          for name, seed in (("scored", 1), ("itself", 2)))
        np.testing.assert_array_equal(scored, itself, err_msg=rule)


def test_scoring_that_dies_ends_equal(data, done, tmp_path, monkeypatch):
    config = compression(data, **SCORING)
    config.checkpoint_seconds = 0.0
    path = tmp_path / "run"
    dying_in_turn([(ManyRun, "save", 2), (NetworkScores, "observe", 9), (ManyRun, "save", 4), (ManyRun, "save", 9),
                   (NetworkScores, "observe", 3)], monkeypatch, lambda: compress(config, path))
    compress(config, path)
    same_tables(done, path)
    for name, arrays in arrays_of(done).items():
        for key, values in arrays.items():
            np.testing.assert_array_equal(arrays_of(path)[name][key], values)


def test_a_grid_ranks_by_the_same_scores(data, done, tmp_path):
    grid = {"compress__mode": "grid", "compress__grid_learning_rates": (0.02,), "compress__grid_batch_sizes": (6,),
            "compress__base": str(done / "base"), "compress__controls": ("el2n@2", "kcenter+balanced")}
    compress(compression(data, **(SCORING | grid)), tmp_path / "grid")
    kept, same = ({row["rule"]: sorted(row["ids"]) for row in read_kept_ids(path)}
                  for path in (tmp_path / "grid", done))
    assert kept == {rule: same[rule] for rule in ("smallest", "el2n@2", "kcenter+balanced")}


@pytest.mark.parametrize(("changes", "message"), [
    ({"compress__controls": ("el2n@2",)}, "score.networks should be >= 1 for the rule 'el2n@2'"),
    ({"compress__controls": ("dual",)}, "score.networks should be >= 1 for the score 'dual'"),
    ({"compress__difficulty": "dual", "compress__controls": ("window",)}, "score.networks should be >= 1 for the sc"),
    ({"score__epoch": 3}, "score.epoch should be -1 with score.networks=0"),
    ({"score__networks": 2, "score__seed": 0}, "such that no network is scored and compressed: seeds 0..1"),
    ({"score__networks": 2, "score__epoch": 61}, "score.epoch should be at most the 60 epochs"),
    ({"score__networks": 2, "compress__controls": ("grand@61",)}, "score.epoch should be at most the 60 epochs"),
    ({"score__networks": 2, "compress__controls": ("dual@5",)}, "score.window should be at most the 5 epochs"),
    ({"score__networks": 2, "compress__mode": "grid", "compress__grid_scope": "whole_run"}, "whole_run"),
    ({"compress__rule": "window+balanced"}, "compress.balanced=True says"),
    ({"compress__controls": ("ids",)}, "without the rule 'ids'"),
    ({"compress__controls": ("random@3",)}, "looks at no network"),
    ({"compress__controls": ("el2n@-1",)}, "got 'el2n@-1'"),
    ({"compress__controls": ("el2n@",)}, "got 'el2n@'"),
    ({"compress__hardest": 1.5}, "hardest should be in"),
    ({"compress__difficulty": "kcenter"}, "difficulty should be one of"),
])
def test_scores_that_cannot_be_taken_are_refused_before_any_compute(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        compress(compression(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_alone_has_no_other_networks(data, tmp_path):
    for changes, message in (({"score__networks": 1}, "score.networks should be 0 but in launch/compress.py"),
                             ({"compress__rule": "dual"}, "needs the probabilities of every epoch")):
        with pytest.raises(InputError, match=message):
            train(compression(data, **changes), tmp_path / "run")


def test_networks_that_cannot_be_scored_say_so(data, tmp_path):
    with pytest.raises(DivergedError, match="seed 7, by whose scores .* were to be ranked: the loss was not finite"):
        compress(compression(data, **(SCORING | {"optimizer__learning_rate": 1e30})), tmp_path / "diverged")
    with pytest.raises(DivergedError, match="epochs, fewer than the 50 of score.window"):
        compress(compression(data, **(SCORING | {"score__window": 50, "compress__controls": ("dual",)})),
                 tmp_path / "short")
    assert mean_scores(compression(data), None, tmp_path) == {}
