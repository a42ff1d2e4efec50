"""What would give a wrong number or an error of NumPy's own is refused by the statistics, in the user's words."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margin_jax.errors import InputError
from margin_jax.statistics import audit, estimates, hypotheses, information, proportions, ranking

SIX = np.arange(6.0)
TEXT, COMPLEX, PAIRS, RAGGED = np.array(list("abcdef")), SIX + 1j, np.ones((6, 2)), [[1.0], [1.0, 2.0]]
DESIGN = audit.Design({}, {}, np.zeros(6))


@pytest.mark.parametrize("bad", [TEXT, COMPLEX, PAIRS, RAGGED, SIX[:5], None, 3.0], ids=lambda bad: str(np.size(bad, 0))
                         if isinstance(bad, np.ndarray) else type(bad).__name__)
@pytest.mark.parametrize("fn", [ranking.spearman, ranking.kendall, ranking.sign_error,
                                information.conditional_mutual_information, estimates.agreement,
                                lambda a, b: ranking.partial_spearman(SIX, a, [b]),
                                lambda a, b: audit.audit({"m": a}, {"m": 1}, {"t": b}, DESIGN, 0)],
                         ids=["spearman", "kendall", "sign", "cmi", "agreement", "partial", "audit"])
def test_columns(fn, bad):
    for pair in ((SIX, bad), (bad, SIX)):
        with pytest.raises(InputError, match="expected"):
            fn(*pair)


@pytest.mark.parametrize("call", [
    lambda: estimates.percentile_interval(PAIRS),  # would be flattened
    lambda: estimates.percentile_interval(SIX, 95),
    lambda: estimates.reflected_interval(1.0, SIX, 0.0),
    lambda: estimates.bootstrap_estimate(np.array([]), 3),
    lambda: estimates.t_interval(TEXT),
    lambda: estimates.t_interval(SIX, axis=1),
    lambda: estimates.t_interval(np.float64(3)),
    lambda: estimates.agreement(SIX, SIX[:1]),  # would be broadcast
    lambda: estimates.agreement(SIX, SIX, resamples=2.5),
    lambda: estimates.resample(SIX, 2.5, 0),
    lambda: estimates.counts(np.array([[0, 3], [1, 1]])),  # would count in the next draw
    lambda: estimates.counts(np.array([[0.0, 1.0]])),
    lambda: ranking.spearman(SIX, SIX, -np.ones(6)),
    lambda: information.conditional_mutual_information(SIX, SIX, counts=np.full(6, 0.5)),
    lambda: audit.audit({"m": SIX}, {"m": 1}, {"t": SIX}, DESIGN, -1),
    lambda: audit.audit({"m": SIX}, {"m": 1}, {"t": SIX}, audit.Design({}, {"c": TEXT}, np.zeros(6))),
    lambda: hypotheses.correlation_evidence(np.array([0.1, 1.5, 0.2])),  # would be left out
    lambda: hypotheses.ratio_evidence(np.array([1.0, -2.0, 3.0])),
    lambda: proportions.wilson_interval(np.array([1, 2]), np.array([3, 4])),
    lambda: proportions.wilson_interval(1, 3, 95),
])
def test_what_gives_a_wrong_number_is_refused(call):
    with pytest.raises(InputError, match="expected"):
        call()


NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 2.0, 1e30, np.inf, -np.inf, np.nan])
SHAPES = st.sampled_from([(5,), (5,), (4,), (0,), (5, 1), ()])


@st.composite
def arrays(draw):
    shape = draw(SHAPES)
    values = draw(st.lists(NUMBERS, min_size=5, max_size=5))[:int(np.prod(shape))]
    return np.array(values).reshape(shape).astype(draw(st.sampled_from([np.float64, np.float32, object, "U3"])))


@settings(max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(arrays(), arrays())
def test_any_two_arrays_give_spearman_or_a_refusal(first, second):
    fits = first.shape == second.shape and first.ndim == 1 and first.dtype.kind == second.dtype.kind == "f"
    if not fits or np.isnan(first).any() or np.isnan(second).any():
        with pytest.raises(InputError, match="expected"):
            ranking.spearman(first, second)
        return
    with np.errstate(all="ignore"):
        value = ranking.spearman(first, second)
    places = [np.array([(column < x).sum() + ((column == x).sum() + 1) / 2 for x in column])
              for column in (first, second)]
    if first.size < 3 or any(np.unique(place).size < 2 for place in places):
        assert np.isnan(value)
    else:
        np.testing.assert_allclose(value, np.corrcoef(*places)[0, 1], atol=1e-12)
