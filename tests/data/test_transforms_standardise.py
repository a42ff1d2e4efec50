"""Mean and standard deviation per channel against NumPy in float64."""

import tracemalloc

import numpy as np
import pytest

from margin_jax.data.load import load_data
from margin_jax.data.transforms import channel_statistics, pixel_scaling
from margin_jax.errors import InputError


def reference(images, mask):
    kept = images[mask].astype(np.float64)
    return kept.mean(axis=(0, 1, 2)), kept.std(axis=(0, 1, 2))


def masks(rows):
    generator = np.random.default_rng(0)
    last, first = np.zeros(rows, bool), np.zeros(rows, bool)
    last[-1] = first[0] = True
    alternate = np.arange(rows) % 2 == 0
    return {"all": np.ones(rows, bool), "first": first, "last": last, "alternate": alternate,
            "random": (generator.random(rows) < 0.3) | first, "all but first": ~first | (rows == 1)}


@pytest.mark.parametrize("which", masks(1))
@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (3, 5, 4, 3), (700, 8, 8, 2), (1400, 32, 32, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_agrees_with_numpy_over_kept_rows(shape, kind, which):
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, shape).astype(kind)
    if kind == np.float32:
        images = images / 7 - 10
    mask = masks(shape[0])[which]
    mean, std = channel_statistics(images, mask)
    expected_mean, expected_std = reference(images, mask)
    assert mean.dtype == std.dtype == np.float32 and mean.shape == std.shape == (shape[3],)
    np.testing.assert_allclose(mean, expected_mean, rtol=3e-7)
    np.testing.assert_allclose(std, expected_std, rtol=3e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_removed_rows_may_hold_anything(value):
    images = np.random.default_rng(2).normal(size=(50, 6, 6, 3)).astype(np.float32)
    mask = np.arange(50) % 7 != 3
    before = channel_statistics(images, mask)
    images[~mask] = value
    after = channel_statistics(images, mask)
    assert np.array_equal(before, after)


def test_a_large_offset_costs_no_digits():
    images = (1e4 + np.random.default_rng(3).normal(size=(400, 8, 8, 1))).astype(np.float32)
    mask = np.ones(400, bool)
    np.testing.assert_allclose(channel_statistics(images, mask)[1], reference(images, mask)[1], rtol=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.0, -3.3e5, 255.0])
def test_a_constant_channel_standardises_to_zeros(value):
    images = np.random.default_rng(4).normal(size=(33, 7, 7, 2)).astype(np.float32)
    images[..., 1] = value
    mean, std = channel_statistics(images, np.ones(33, bool))
    assert std[1] == 1 and std[0] != 1
    assert np.all((images[..., 1] - mean[1]) / std[1] == 0)
    pixels = np.zeros((5, 2, 2, 2), np.uint8)
    pixels[..., 0] = 9
    mean, std = channel_statistics(pixels, np.ones(5, bool))
    assert mean.tolist() == [9, 0] and std.tolist() == [1, 1]


def test_a_constant_whose_sum_rounds_is_still_constant():
    images = np.full((33, 7, 7, 1), 0.1)  # in float64 the mean misses 0.1 by a unit in the last place
    assert images.mean() != 0.1
    assert channel_statistics(images, np.ones(33, bool))[1] == 1


def test_a_spread_below_float32_counts_as_none():
    images = np.zeros((100, 1, 1, 1), np.float32)
    images[7] = 1e-45
    assert channel_statistics(images, np.ones(100, bool))[1] == 1


def test_memory_stays_far_below_a_copy_of_the_images():
    images = np.random.default_rng(5).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
    tracemalloc.start()
    channel_statistics(images, np.ones(10_000, bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 2


@pytest.mark.parametrize("images, mask, message", [
    (np.zeros((3, 2, 2), np.uint8), np.ones(3, bool), "four non-empty axes"),
    (np.zeros((0, 2, 2, 1), np.uint8), np.ones(0, bool), "four non-empty axes"),
    (np.zeros((3, 2, 2, 1), np.uint8), np.ones(2, bool), r"bool of shape \(3,\)"),
    (np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 2]), "bool of shape .* got int64"),
    (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, bool), "keeps no row"),
    (np.zeros((3, 2, 2, 1), np.int32), np.ones(3, bool), "uint8 or float, got int32"),
])
def test_refuses_what_has_no_statistics(images, mask, message):
    with pytest.raises(InputError, match=message):
        channel_statistics(images, mask)


@pytest.mark.parametrize("white,dtype", [(255.0, np.uint8), (1.0, np.float32)])
def test_half_and_unit_scaling_map_black_and_white_to_their_ends(white, dtype):
    images = np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), white)]).astype(dtype)
    for scaling, ends in (("half", (-1, 1)), ("unit", (0, 1)), ("channel", (-1, 1))):
        mean, std = pixel_scaling(images, scaling, white)
        assert mean.dtype == std.dtype == np.float32 and mean.shape == std.shape == (3,)
        np.testing.assert_array_equal(((images - mean) / std)[:, 0, 0, 0], ends)
    with pytest.raises(InputError, match="'tanh'"):
        pixel_scaling(images, "tanh", white)


def test_white_is_what_the_pixels_reach():
    digits = load_data("digits")
    assert digits.white == 16 == digits.train.images.max()
