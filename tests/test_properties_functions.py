"""Pure functions on arrays of any size, type and value: the number of a plain NumPy reference, or our own refusal."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import margin_jax as mj
from margin_jax.errors import InputError

# The same cases in every run; a case is small, and JAX keeps the programs of the few shapes that there are.
every = settings(max_examples=110, derandomize=True, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, 1e-30, 1e30, 3e38, -3e38, np.inf, -np.inf, np.nan]
VALUES = st.one_of(st.sampled_from(SPECIAL), st.integers(-3, 3).map(float), st.floats(-100, 100, width=32))
SIZES = st.sampled_from([5, 4, 1])


@st.composite
def columns(draw, dtypes=FLOATS):
    """Values (N,) with ties, NaN and infinities."""
    values = draw(st.lists(VALUES, min_size=5, max_size=5))[:draw(SIZES)]
    with np.errstate(over="ignore"):
        return np.array(values).astype(draw(st.sampled_from(dtypes)))


@st.composite
def batches(draw):
    """Logits (N, C) and labels of any type and range, some one-hot or of another length."""
    count, classes = draw(st.sampled_from([4, 1])), draw(st.sampled_from([3, 2, 1]))
    numbers = draw(st.lists(VALUES, min_size=12, max_size=12))[:count * classes]
    with np.errstate(over="ignore"):
        logits = np.array(numbers).astype(draw(st.sampled_from([*FLOATS, np.float32, np.float32])))
    kind = draw(st.sampled_from(["int32", "int32", "int32", "int64", "uint8", "float32", "bool", "one_hot", "longer"]))
    labels = np.array(draw(st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, -1, 2**33]), min_size=6, max_size=6)))
    if kind == "one_hot":
        return logits.reshape(count, classes), np.eye(3, dtype=int)[labels[:count] % 3]
    if kind == "longer":
        return logits.reshape(count, classes), labels[:count + 1]
    labels = labels[:count] if kind == "int64" else (labels[:count] % 2**8 if kind == "uint8" else
                                                    np.clip(labels[:count], -1, 3))
    return logits.reshape(count, classes), labels.astype(kind)


def refused(logits, labels):
    return logits.shape[1] < 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu"


def exact(values):
    """As JAX holds them: float32 at least, and no more."""
    return np.asarray(values, np.float32).astype(np.float64)


@every
@given(batches(), st.booleans())
def test_margins(batch, on_device):
    logits, labels = batch
    if refused(logits, labels):
        with pytest.raises(InputError, match="expected"):
            mj.margins(jnp.asarray(logits) if on_device else logits, labels)
        return
    values = np.asarray(mj.margins(jnp.asarray(logits) if on_device else logits, labels))
    assert values.dtype == np.float32
    with np.errstate(all="ignore"):
        for row, label, value in zip(exact(logits), labels, values, strict=True):
            inside = 0 <= label < row.size
            truth = row[label] - np.max(np.delete(row, label)) if inside else np.nan
            np.testing.assert_allclose(value, np.float32(truth), rtol=1e-6)


@every
@given(batches())
def test_el2n(batch):
    logits, labels = batch
    if refused(logits, labels):
        with pytest.raises(InputError, match="expected"):
            mj.el2n(logits, labels)
        return
    values = np.asarray(mj.el2n(logits, labels))
    for row, label, value in zip(exact(logits), labels, values, strict=True):
        if not 0 <= label < row.size:
            assert np.isnan(value)
        elif np.isfinite(row).all():
            p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
            p[label] -= 1
            np.testing.assert_allclose(value, np.sqrt(np.sum(p**2)), rtol=1e-5, atol=1e-7)


COUNTS = st.sampled_from([1, 2, 3, 4, 5, 0, -1, 6, 2**40, 1.0, True, np.int64(1), np.uint8(2)])


@every
@given(columns([*FLOATS, np.float32]), COUNTS, st.sampled_from(["smallest", "largest", "balanced"]),
       st.lists(st.booleans(), min_size=5, max_size=5), st.lists(st.integers(0, 1), min_size=5, max_size=5),
       st.sampled_from(["mask", "none", "numbers"]))
def test_select(values, keep, rule, kept, labels, within_kind):
    count = values.size
    within = {"mask": np.array(kept[:count]), "none": None, "numbers": np.array(kept[:count]).astype(int)}[within_kind]
    labels = np.array(labels[:count])
    if not isinstance(keep, int | np.integer) or isinstance(keep, bool) or not 1 <= keep <= count or (
            within_kind == "numbers"):
        with pytest.raises(InputError, match="expected"):
            mj.select(rule, values, keep, labels, within)
        return
    mask = np.asarray(mj.select(rule, values, keep, labels, within))
    scores = np.asarray(values, np.float64)
    rank = np.argsort(np.argsort(np.stack([-scores if rule == "largest" else scores])[0], kind="stable"), kind="stable")
    allowed = np.ones(count, bool) if within is None else within
    left, order, taken = list(np.flatnonzero(allowed)), [], {0: 0, 1: 0}
    while left:
        turn = taken if rule == "balanced" else {0: 0, 1: 0}
        row = min(left, key=lambda row, turn=turn: (np.isnan(scores[row]), turn[labels[row]], rank[row]))
        order.append(row)
        left.remove(row)
        taken[labels[row]] += 1
    np.testing.assert_array_equal(mask, np.isin(np.arange(count), order[:int(keep)]))


@every
@given(columns(), st.sampled_from(["frobenius", "p", "spectral", "nuclear"]),
       st.sampled_from([1.0, 2.0, 3.5, 100.0, np.inf, 0.5, np.nan]))
def test_layer_norm(values, kind, p):
    if kind == "nuclear" or kind == "p" and not p >= 1:
        with pytest.raises(InputError, match="expected a norm"):
            mj.layer_norm(values, kind, p)
        return
    entries = np.abs(exact(values))
    if kind == "spectral" and not np.isfinite(entries).all():
        return
    norm = np.asarray(mj.layer_norm(values[None], kind, p))
    assert norm.dtype == np.float32
    power, largest = (p if kind == "p" else 2.0), entries.max()
    truth = largest
    if np.isfinite(largest) and largest > 0 and np.isfinite(power):
        truth = largest * np.sum((entries / largest) ** power) ** (1 / power)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(norm, np.float32(truth), rtol=1e-4)


GAMMAS = st.sampled_from([0.0, 0.5, 1.0, 1e30, -1.0, np.nan, np.float32(0.5), np.array([1.0, 2.0])])


@every
@given(columns(FLOATS[:2]), GAMMAS, st.booleans(), st.lists(st.booleans(), min_size=5, max_size=5), st.booleans())
def test_readings_of_a_curve(values, gamma, on_device, counted, all_rows):
    where = None if all_rows else np.array(counted[:values.size])
    xs = jnp.asarray(values) if on_device else values
    place = None if where is None else (jnp.asarray(where) if on_device else where)
    readings = (mj.auc_ramp, mj.auc_tail, mj.small_margin_count)
    if where is not None and not where.any():
        if not on_device:
            with pytest.raises(InputError, match="counts none"):
                mj.auc_ramp(xs, 1.0, place)
        return
    if np.ndim(gamma) or not gamma >= 0:
        for reading in readings:
            with pytest.raises(InputError, match="gamma"):
                reading(xs, gamma, place)
        return
    rows = values if where is None else values[where]
    with np.errstate(all="ignore"):
        ramp, tail, count = (np.asarray(reading(xs, gamma, place)) for reading in readings)
        if np.isnan(rows).any():
            assert np.isnan(ramp) and np.isnan(tail) and count == 0
        elif np.isfinite(rows).all() and np.abs(rows).max() < 1e29:
            loss = rows <= 0 if gamma == 0 else 1 - np.clip(rows.astype(np.float64) / gamma, 0, 1)
            np.testing.assert_allclose(ramp, 1 - loss.mean(), rtol=1e-5, atol=1e-6)
            within = rows <= rows.min() + np.asarray(gamma, rows.dtype)
            assert count == within.sum()
            np.testing.assert_allclose(tail, np.where(within, rows, 0).astype(np.float64).mean(), rtol=1e-4, atol=1e-5)


@every
@given(columns(FLOATS[:2]), st.lists(st.booleans(), min_size=5, max_size=5), st.booleans())
def test_spread_of_a_curve(values, counted, on_device):
    where = np.array(counted[:values.size])
    if not where.any():
        return
    rows = values[where]
    xs, place = (jnp.asarray(values), jnp.asarray(where)) if on_device else (values, where)
    iqr, variation = np.asarray(mj.relative_iqr(xs, place)), np.asarray(mj.coefficient_of_variation(xs, place))
    if np.isnan(rows).any():
        assert np.isnan(iqr) and np.isnan(variation)
    elif np.abs(rows).max() < 1e4:
        low, median, high = np.quantile(rows.astype(np.float64), [0.25, 0.5, 0.75])
        np.testing.assert_allclose(iqr, (high - low) / median if median > 1e-3 else iqr, rtol=1e-3, atol=1e-5)
        mean = rows.astype(np.float64).mean()
        np.testing.assert_allclose(variation, rows.astype(np.float64).std() / mean if mean > 1e-1 else variation,
                                   rtol=1e-2, atol=1e-4)


RHOS = st.sampled_from([2.0, 1e-3, 1e30, 0.0, -1.0, np.inf, np.nan, np.float32(4)])


@every
@given(columns(FLOATS[:2]), RHOS, st.booleans(), st.booleans())
def test_normalised_margins(values, rho, on_device, in_logarithms):
    xs = jnp.asarray(values) if on_device else values
    known = 0 < rho < np.inf
    with np.errstate(all="ignore"):
        divisor = {"log_rho": np.log(float(rho))} if in_logarithms else {"rho": rho}
        result = np.asarray(mj.normalised_margins(xs, **divisor))
        truth = np.asarray(xs).astype(np.float64) / float(rho) if known else np.full(values.shape, np.nan)
        seen = np.isnan(truth) | np.isinf(truth) | ((np.abs(truth) > 1e-37) & (np.abs(truth) < 1e37)) | (truth == 0)
        np.testing.assert_allclose(result[seen], truth[seen], rtol=1e-4)


@every
@given(columns(), st.sampled_from([1, 2, 5, 0, 6, 1.5, np.int32(1)]))
def test_support_set(values, k):
    ids = np.arange(values.size)[::-1].copy()
    if not isinstance(k, int | np.integer) or not 1 <= k <= values.size:
        with pytest.raises(InputError, match="expected an integer"):
            mj.support_set(values, ids, k)
        return
    numbers = np.asarray(values, np.float64)
    rows = sorted(range(values.size), key=lambda row: (np.isnan(numbers[row]), np.nan_to_num(numbers[row], nan=0.0,
                                                       posinf=np.inf, neginf=-np.inf), ids[row]))
    np.testing.assert_array_equal(mj.support_set(values, ids, k), ids[rows[:int(k)]])
