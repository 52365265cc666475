"""Standard deviation of whatever follows from positions, from a few samples of the posterior: one per chain, four at most.

Errors of neighbours enter as correlated as they are; independent errors would give a pyramidalisation four times its true sigma.
A variance from four samples is itself known to a factor of two only. The atoms' variances are therefore drawn towards their common
one, as far as they scatter no more about it than so few samples make them (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 3 (2004), sec. 6).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

FEWEST_ATOMS = 10
# Beyond so many degrees of freedom the atoms' variances count as one.
MOST_FREEDOM = 1e4


def mean_of_samples(values: np.ndarray) -> np.ndarray:
    """Mean (n,) over samples (S, n); a sample that has no value (NaN) is left out, NaN where none has."""
    count = np.isfinite(values).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def posterior_sigma(values: np.ndarray) -> np.ndarray:
    """Standard deviation (n,) of the posterior of a quantity known for samples (S, n); NaN where fewer than two samples have it."""
    count = np.isfinite(values).sum(axis=0)
    known = count >= 2
    variance = np.full(values.shape[1], np.nan)
    variance[known] = np.nanvar(values[:, known], axis=0, ddof=1)
    own = np.maximum(count - 1.0, 1.0)
    typical = known & (variance > 0) & (count == len(values))
    if typical.sum() < FEWEST_ATOMS:
        return np.sqrt(variance)
    common, freedom = _common_variance(variance[typical], len(values) - 1.0)
    return np.sqrt((freedom * common + own * variance) / (freedom + own))


def _common_variance(variance: np.ndarray, freedom: float) -> tuple[float, float]:
    """What the variances (n,), each of so many degrees of freedom, are drawn towards, and with how many degrees of freedom."""
    logs = np.log(variance) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - polygamma(1, freedom / 2)
    if excess <= polygamma(1, MOST_FREEDOM / 2):
        return float(np.exp(logs.mean())), MOST_FREEDOM
    prior = 2 * brentq(lambda half: polygamma(1, half) - excess, 1e-3, MOST_FREEDOM / 2)
    return float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))), prior
