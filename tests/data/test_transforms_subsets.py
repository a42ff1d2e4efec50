"""Class subsets, random labels, and the checks of a data set."""

import dataclasses

import numpy as np
import pytest
from helpers.data import tiny_dataset

from margin_jax.data.dataset import digest, validate_dataset
from margin_jax.data.load import load_data
from margin_jax.data.transforms import first_of_each_class, randomise_labels, select_classes
from margin_jax.errors import InputError


@pytest.mark.parametrize("classes, numbers", [
    (("blue", "red"), [2, 0]), ((1, 2), [1, 2]), (("2", "green"), [2, 1]), ((2, 1, 0), [2, 1, 0]),
    (np.array([0, 2]), [0, 2]), (("red", "green", "blue"), [0, 1, 2]),
])
def test_classes_are_relabelled_in_the_order_listed_and_keep_their_ids(classes, numbers):
    dataset = tiny_dataset()
    before = digest(dataset)
    subset = select_classes(dataset, classes)
    assert subset.class_names == tuple(("red", "green", "blue")[k] for k in numbers) and subset.name == "tiny"
    for old, new in ((dataset.train, subset.train), (dataset.test, subset.test)):
        expected = [k for k in range(len(old.ids)) if old.labels[k] in numbers]
        assert new.ids.tolist() == old.ids[expected].tolist()
        assert new.labels.tolist() == [numbers.index(old.labels[k]) for k in expected]
        assert np.array_equal(new.true_labels, new.labels) and new.labels.dtype == np.int32
        assert np.array_equal(new.images, old.images[expected])
    validate_dataset(subset)
    assert digest(dataset) == before


@pytest.mark.parametrize("classes, message", [
    (("rd", "blue"), "no class 'rd'; nearest is 'red'"), (("Blue", 1), "nearest is 'blue'"), ((0, 3), "no class 3"),
    ((0, -1), "no class -1"), ((0, True), "no class True"), (("red",), "at least two"), ((), "at least two"),
    (("red", 0), "must not repeat"), ("red", "list of names"), ((0, 1.0), "no class 1.0"),
])
def test_classes_that_cannot_be_chosen(classes, message):
    with pytest.raises(InputError, match=message):
        select_classes(tiny_dataset(), classes)


def test_classes_are_chosen_before_labels_are_randomised():
    dataset = tiny_dataset()
    random = dataclasses.replace(dataset, train=randomise_labels(dataset.train, 1.0, 0, 3))
    with pytest.raises(InputError, match="before randomising"):
        select_classes(random, (0, 1))


def test_load_chooses_classes_then_randomises_training_labels_only():
    plain = load_data("digits", classes=("7", 3))
    random = load_data("digits", classes=("7", 3), random_fraction=1.0, random_seed=4)
    assert random.class_names == ("7", "3") and set(random.train.labels) == {0, 1}
    assert np.array_equal(random.train.true_labels, plain.train.labels)
    assert np.array_equal(random.train.ids, plain.train.ids)
    assert np.array_equal(random.test.labels, plain.test.labels)
    assert 0.4 < np.mean(random.train.labels != plain.train.labels) < 0.6


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_randomised_rows_are_as_many_as_asked_and_the_rest_stays(rows, fraction):
    split = dataclasses.replace(tiny_dataset(max(rows, 3)).train)
    split = dataclasses.replace(split, **{name: getattr(split, name)[:rows] for name in
                                          ("images", "labels", "ids", "true_labels")})
    # With so many classes a drawn label never is the true one: every chosen row shows.
    changed = randomise_labels(split, fraction, 5, 2**30)
    assert np.sum(changed.labels != split.labels) == round(fraction * rows)
    assert np.array_equal(changed.true_labels, split.labels) and changed.labels.dtype == np.int32
    assert np.array_equal(changed.ids, split.ids) and changed.images is split.images


def test_random_labels_are_uniform_and_may_be_the_true_ones():
    split = tiny_dataset(30_000).train
    changed = randomise_labels(split, 1.0, 1, 3)
    share = np.bincount(changed.labels, minlength=3) / len(split.labels)
    assert np.allclose(share, 1 / 3, atol=0.015)
    assert abs(np.mean(changed.labels == split.labels) - 1 / 3) < 0.015
    for label in range(3):  # independent of the true label
        assert abs(np.mean(changed.labels[split.labels == label] == 0) - 1 / 3) < 0.025


def test_random_labels_depend_on_seed_and_rows_alone():
    split, other = tiny_dataset(200, seed=0).train, tiny_dataset(200, seed=1).train
    shifted = dataclasses.replace(other, labels=(other.labels + 1) % 3, ids=other.ids + 7)
    first = randomise_labels(split, 0.5, 11, 2**30)
    again = randomise_labels(shifted, 0.5, 11, 2**30)
    chosen = first.labels != split.labels
    assert np.array_equal(chosen, again.labels != shifted.labels)
    assert np.array_equal(first.labels[chosen], again.labels[chosen])
    assert not np.array_equal(first.labels, randomise_labels(split, 0.5, 12, 2**30).labels)
    smaller = randomise_labels(split, 0.2, 11, 2**30)
    few = smaller.labels != split.labels
    assert np.all(chosen[few]) and np.array_equal(smaller.labels[few], first.labels[few])


@pytest.mark.parametrize("fraction, seed, message", [
    (-0.1, 0, r"\[0, 1\], got -0.1"), (1.1, 0, "got 1.1"), (float("nan"), 0, "got nan"), (50, 0, "got 50"),
    (0.5, -1, "seed"),
])
def test_random_labels_that_cannot_be(fraction, seed, message):
    with pytest.raises(InputError, match=message):
        randomise_labels(tiny_dataset().train, fraction, seed, 3)
    with pytest.raises(InputError, match=message):  # before the missing folder is noticed: nothing is read
        load_data("cifar10", data_dir="absent", random_fraction=fraction, random_seed=seed)


def broken(**arrays):
    dataset = tiny_dataset()
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, **arrays))


@pytest.mark.parametrize("arrays, message", [
    ({"images": np.zeros((30, 4, 5), np.uint8)}, r"four axes \(N, H, W, C\), got shape \(30, 4, 5\)"),
    ({"images": np.zeros((29, 4, 5, 3), np.uint8)}, "one length, got 29 images, 30 labels"),
    ({"images": np.zeros((30, 4, 5, 3), np.float64)}, "uint8 or float32, got float64"),
    ({"labels": np.zeros(30, np.int64)}, "labels must be int32, got int64"),
    ({"labels": np.zeros((30, 1), np.int32)}, "one axis"),
    ({"true_labels": np.full(30, 3, np.int32)}, "first id 2 with label 3"),
    ({"ids": np.arange(30, dtype=np.int32)}, "ids must be int64"),
    ({"ids": np.arange(30)[::-1].copy()}, "28 follows 29"),
    ({"ids": np.repeat(np.arange(15), 2)}, "id 0 occurs twice"),
])
def test_validate_names_the_array_at_fault(arrays, message):
    with pytest.raises(InputError, match=message):
        validate_dataset(broken(**arrays))


def test_validate_accepts_whole_data_sets_and_random_labels_without_a_class():
    dataset = tiny_dataset()
    validate_dataset(dataset)
    validate_dataset(dataclasses.replace(dataset, train=randomise_labels(dataset.train, 1.0, 0, 3)))


@pytest.mark.parametrize("count,shares", [(3, [1, 1, 1]), (5, [2, 2, 1])])
def test_a_short_training_set_has_the_first_rows_of_each_class(count, shares):
    dataset = tiny_dataset()
    short = first_of_each_class(dataset, count).train
    assert np.bincount(short.labels, minlength=3).tolist() == shares and (np.diff(short.ids) > 0).all()
    for label, share in enumerate(shares):
        first = dataset.train.ids[dataset.train.labels == label][:share]
        assert short.ids[short.labels == label].tolist() == first.tolist()
    assert first_of_each_class(dataset, count).test is dataset.test


@pytest.mark.parametrize("count", [2, 10**6])
def test_a_training_set_cannot_be_shorter_than_its_classes_or_longer_than_the_data(count):
    with pytest.raises(InputError, match=f"a training set of {count} examples needs"):
        first_of_each_class(tiny_dataset(), count)
