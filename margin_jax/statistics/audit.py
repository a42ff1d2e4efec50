"""The audit: which measure ranks trained networks by their error, and what else could explain that it does.

One row per measure, target and statistic, for the table audit.csv. "Supports" says when a row speaks for the measure.

| statistic | what it is | supports |
|---|---|---|
| spearman, kendall | rank correlation of the error the measure predicts with the target | > 0 |
| sign_error | share of pairs of networks in the wrong order | < 1/2 |
| partial_X | Spearman's correlation given the covariate X | > 0 |
| partial_all | the same given all covariates, where there are several | > 0 |
| cmi | K of Jiang et al. 2020: normalised information on the order of two networks, given hyperparameters | > 0 |
| cmi_corrected | the same less the bias that the bootstrap shows | > 0 |

cmi has no direction: it supports a measure only together with kendall > 0.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.statistics import estimates, information, ranking
from margin_jax.statistics.checks import checked_numbers, checked_resamples
from margin_jax.statistics.estimates import FEWEST, UNDEFINED, Estimate, bootstrap_estimate

COLUMNS = ("measure", "target", "statistic", "value", "low", "high", "networks")
ALL = "all"

Columns = Mapping[str, np.ndarray]


class Design(NamedTuple):
    """What the R networks of an audit differ in.

    Attributes:
      hyperparameters: names to (R,) of numbers or text, for the sets S of cmi, such as the init std. One that differs
        in every network, such as a seed used once, leaves nothing to tell: its sets are left out.
      covariates: names to (R,) float without NaN, for the partial correlations, such as std and train_loss.
      strata: (R,) of numbers or text within which networks are redrawn, as a rule the init std.
    """

    hyperparameters: Columns
    covariates: Columns
    strata: np.ndarray


def audit(measures: Columns, directions: Mapping[str, int], targets: Columns, design: Design, resamples: int = 1000,
          seed: int = 0) -> list[dict[str, Any]]:
    """Judges every measure by every target, with bootstrap 95% intervals from networks redrawn within their strata.

    Networks where a measure or a target is NaN are left out of their rows, and `networks` counts the others. Measures
    with the same networks are judged on the same draws. Intervals are between percentiles of the draws, but for cmi:
    its estimate is too large where few networks share hyperparameters, and its draws are so once more. The set S whose
    estimate less that bias is smallest is taken, and its draws reflected, cut to [0, 1]; the value of cmi, K as the
    paper defines it, then often lies above its interval, that of cmi_corrected inside.

    Args:
      measures: names to (R,) float.
      directions: every measure's name to +1 where larger values claim a lower error, to -1 where a higher.
      targets: names to (R,) float, larger is worse: test error in percent, generalisation gap, losses in nats.
      design: what the networks differ in.
      resamples: draws B >= 0; 0 for no intervals.
      seed: of the draws.

    Returns:
      Rows with the keys COLUMNS, in the order of measures, then targets, then statistics. value, low and high are
      float, NaN where undefined: all of them for fewer than three networks, low and high where no stratum has two.

    Raises:
      InputError: columns of different lengths or without numbers, a direction that is absent or not +1 or -1, a NaN in
        a covariate, or a covariate named "all".
    """
    _check(measures, directions, targets, design)
    resamples, strata, plans, rows = checked_resamples(resamples), np.asarray(design.strata), {}, []
    for measure, values in measures.items():
        predicted = -directions[measure] * np.asarray(values, np.float64)
        for target, errors in targets.items():
            keep = ~np.isnan(predicted) & ~np.isnan(np.asarray(errors, np.float64))
            if keep.tobytes() not in plans:
                plans[keep.tobytes()] = _plan(strata[keep], resamples, seed)
            chosen = [{name: np.asarray(column)[keep] for name, column in columns.items()}
                      for columns in (design.hyperparameters, design.covariates)]
            judged = _estimates(predicted[keep], np.asarray(errors)[keep], *chosen, plans[keep.tobytes()])
            rows += [dict(zip(COLUMNS, (measure, target, statistic, *estimate), strict=True))
                     for statistic, estimate in judged.items()]
    return rows


def _plan(strata: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Counts (1 + B, r): the networks as they are, then the draws; none where every draw would be the same."""
    whole = np.ones((1, strata.size))
    if np.unique(strata).size == strata.size:
        return whole
    return np.concatenate([whole, estimates.counts(estimates.resample(strata, resamples, seed))])


def _estimates(predicted: np.ndarray, target: np.ndarray, hyperparameters: Columns, covariates: Columns,
               counts: np.ndarray) -> dict[str, Estimate]:
    """Every statistic over R networks."""
    networks = predicted.size
    given = {f"partial_{name}": [column] for name, column in covariates.items()}
    if len(covariates) > 1:
        given[f"partial_{ALL}"] = list(covariates.values())
    if networks < FEWEST:
        return dict.fromkeys(("spearman", "kendall", "sign_error", *given, "cmi", "cmi_corrected"),
                             UNDEFINED._replace(n=networks))
    both = (predicted, target)
    draws = {"spearman": ranking.spearman(*both, counts), "kendall": ranking.kendall(*both, counts),
             "sign_error": ranking.sign_error(*both, counts),
             **{name: ranking.partial_spearman(*both, columns, counts) for name, columns in given.items()}}
    return {**{name: bootstrap_estimate(values, networks) for name, values in draws.items()},
            **_information(information.by_set(*both, hyperparameters, counts), networks)}


def _information(by_set: Mapping[tuple[str, ...], np.ndarray], networks: int) -> dict[str, Estimate]:
    """K as it is and corrected, with the interval of the set whose corrected information is smallest."""
    value = float(information.least(by_set)[0])
    corrected = {names: estimates.corrected(values[0], values[1:]) for names, values in by_set.items()}
    corrected = {names: estimate for names, estimate in corrected.items() if np.isfinite(estimate)}
    if not corrected:
        return {"cmi": UNDEFINED._replace(value=value, n=networks), "cmi_corrected": UNDEFINED._replace(n=networks)}
    names = min(corrected, key=corrected.__getitem__)
    ends = estimates.reflected_interval(float(by_set[names][0]), by_set[names][1:])
    unbiased, low, high = (float(np.clip(end, 0, 1)) for end in (corrected[names], ends.low, ends.high))
    return {"cmi": Estimate(value, low, high, networks), "cmi_corrected": Estimate(unbiased, low, high, networks)}


def _check(measures: Columns, directions: Mapping[str, int], targets: Columns, design: Design) -> None:
    for name, column in (*measures.items(), *targets.items(), *design.covariates.items()):
        checked_numbers(column, name)
    shape, covariates = np.shape(design.strata), design.covariates
    for columns in (measures, targets, design.hyperparameters, covariates):
        for name, column in columns.items():
            if len(shape) != 1 or np.shape(column) != shape:
                raise InputError(f"expected columns of one length, one value per network, got {np.shape(column)} for "
                                 f"{name} and {shape} for the strata; give each column for the same networks")
    for name in measures:
        if directions.get(name) not in (1, -1):
            raise InputError(f"expected a direction +1 or -1 of every measure, got {directions.get(name)} for {name}; "
                             "give +1 if larger values claim a lower error, else -1")
    for name, column in covariates.items():
        if np.isnan(np.asarray(column, np.float64)).any():
            raise InputError(f"expected covariates without NaN, got one in {name}; leave out its networks everywhere")
    if ALL in covariates:
        raise InputError(f"expected covariates not named {ALL!r}, which stands for all together; rename it")
