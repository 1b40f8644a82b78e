"""Tests of equivalence, Holm's correction, and shares of variance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
ALPHA = 0.05  # of every one-sided test


def equivalence(differences: ArrayLike, margin: float) -> Array:
    """p-values of two one-sided t-tests (TOST) that a mean difference lies within a margin.

    This is the larger of the two p-values. Below 0.05, the 90% t-interval lies inside the margin.

    Args:
        differences: `(..., S)`, one for each of at least two seeds.
        margin: in the unit of the differences.

    Example:
        >>> print(f"{equivalence([0.004, -0.002, 0.001, -0.003, 0.002], 0.01):.4f}")
        0.0009

    Source: Schuirmann (1987, doi:10.1007/BF01068419).
    """
    above = stats.ttest_1samp(differences, -margin, axis=-1, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, axis=-1, alternative="less").pvalue
    return np.maximum(above, below)


def equivalence_power(
    spread: ArrayLike, seeds: int, margin: float, difference: float = 0.0, alpha: float = 0.05
) -> Array:
    """Power of `equivalence` at level `alpha`, for normal differences.

    `spread` `(...)` is the true standard deviation of the paired differences, and `difference` is
    their true mean. Given the sample's standard deviation, the mean must fall into an interval of
    known width. The probability of this is averaged over the chi distribution of that deviation.

    Example:
        >>> print(f"{equivalence_power(0.015, seeds=5, margin=0.02):.2f}")
        0.60

    Source: Phillips (1990, doi:10.1007/BF01063556), without his bivariate noncentral t.
    """
    free = seeds - 1
    middles = (np.arange(4000) + 0.5) / 4000
    sample = np.sqrt(stats.chi2.ppf(middles, free) / free)  # over the true standard deviation
    reach = stats.t.ppf(1 - alpha, free) * sample
    error = np.asarray(spread, dtype=np.float64)[..., None] / np.sqrt(seeds)
    upper = stats.norm.cdf((margin - difference) / error - reach)
    lower = stats.norm.cdf((-margin - difference) / error + reach)
    return np.maximum(upper - lower, 0).mean(-1)


def holm(p: ArrayLike) -> Array:
    """p-values of a family of tests after Holm's correction, in the shape given.

    If tests reject below 5%, the chance of any false rejection stays below 5%. (The version in
    statsmodels collects garbage at every call, which takes half a second in a long session.)

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    Source: Holm (Scandinavian Journal of Statistics 6, 1979).
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=None)
    steps = values.ravel()[order] * np.arange(values.size, 0, -1)
    corrected = np.empty(values.size)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.reshape(values.shape)


def variance_shares(values: ArrayLike) -> Array:
    """Share of each seed's variance that each factor of a balanced crossed design explains.

    Omega squared of the main effects, ``(SS - df MS_error) / (SS_total + MS_error)``. Sums of
    squares are taken within a seed, so a change that a seed makes in all combinations does not
    count. The error comes from interactions with the seed. A share may be below 0. Interactions and
    noise explain the rest.

    Args:
        values: `(S, ..., A, B, C)`: at least two seeds, any number of separate designs, and the
            levels of the three factors.

    Returns:
        `(S, ..., 3)` shares.

    Example:
        >>> values = np.zeros((2, 2, 2, 2)) + np.array([0.0, 1.0])[:, None, None]  # first factor
        >>> variance_shares(values).tolist()
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]

    Source: Hays (1963); Olejnik and Algina (2003, doi:10.1037/1082-989X.8.4.434).
    """
    y = np.asarray(values, dtype=np.float64)
    seeds, levels = len(y), y.shape[-3:]
    factors, combinations = (-3, -2, -1), int(np.prod(levels))
    centred = y - y.mean(factors, keepdims=True)
    remainders = centred - centred.mean(0)
    noise = (remainders**2).sum((0, *factors)) / ((seeds - 1) * (combinations - 1))
    total = (centred**2).sum(factors)
    shares = []
    for factor, count in zip(factors, levels, strict=True):
        others = tuple(axis for axis in factors if axis != factor)
        effect = (centred.mean(others) ** 2).sum(-1) * combinations / count
        shares.append((effect - (count - 1) * noise) / (total + noise))
    return np.stack(shares, -1)
