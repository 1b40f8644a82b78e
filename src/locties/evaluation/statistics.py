"""Intervals over seeds and over dependent test points, tests of equivalence, shares of variance."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean or a score, with the ends of its interval.

    Attributes:
        mean: the mean, or the score over all points.
        low: the lower end.
        high: the upper end.

    Example:
        >>> Interval(0.9, 0.8, 1.0).low
        0.8
    """

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of one score over training seeds, with its t-interval.

    Args:
        values: `(S,)` finite scores, one for each seed; at least two.
        level: coverage of the interval.

    Returns:
        The mean and the ends of its interval.

    Raises:
        ValueError: fewer than two values, a value that is not finite, or a level outside (0, 1).

    Example:
        >>> mean, low, high = mean_interval([0.90, 0.92, 0.94])
        >>> print(f"{mean:.2f} in [{low:.2f}, {high:.2f}]")
        0.92 in [0.87, 0.97]

    Source: Student, "The probable error of a mean" (Biometrika 6, 1908): the t-interval.
    """
    scores = np.asarray(values, dtype=np.float64).ravel()
    _check_level(level)
    if scores.size < 2 or not np.isfinite(scores).all():
        raise ValueError(
            f"an interval over seeds needs at least two finite values, got {scores.tolist()}"
        )
    mean, spread = scores.mean(), stats.sem(scores)
    half = stats.t.ppf(0.5 + level / 2, scores.size - 1) * spread
    return Interval(float(mean), float(mean - half), float(mean + half))


def block_bootstrap(
    terms: ArrayLike,
    blocks: ArrayLike,
    score: Callable[[Array], Array],
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Score over all points, with the interval of a bootstrap that resamples whole blocks.

    Points near each other err alike, so resampling points would give intervals that are too
    narrow. Every score used here is a function of sums over points; the sums of each block are
    taken once, and a draw is then a weighting of blocks (percentile interval; Cameron, Gelbach
    and Miller 2008, *Bootstrap-based improvements for inference with clustered errors*).

    Args:
        terms: `(N, S)` what each point adds to the S sums.
        blocks: `(N,)` integer block of each point.
        score: from sums `(..., S)` to scores `(...)`.
        draws: number of resamples. The same `seed` and number of blocks give the same resamples,
            so intervals of two encoders on one task rest on the same draws.
        level: coverage of the interval.
        seed: of the resamples.

    Returns:
        The score and the ends of its interval.

    Raises:
        ValueError: lengths that differ, or a level outside (0, 1).

    Example:
        >>> hit = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
        >>> block_bootstrap(hit, [0, 0, 1, 2], lambda sums: sums[..., 0] / sums[..., 1]).mean
        0.75

    Source: Cameron, Gelbach and Miller (2008), resampling blocks.
    """
    values, ids = np.asarray(terms, dtype=np.float64), np.asarray(blocks)
    _check_level(level)
    if len(values) != len(ids):
        raise ValueError(f"{len(values)} rows of terms but {len(ids)} blocks: give one for each")
    names, block = np.unique(ids, return_inverse=True)
    sums = np.stack(
        [np.bincount(block, weights=column, minlength=len(names)) for column in values.T], axis=1
    )
    drawn = score(_block_counts(len(names), draws, seed) @ sums)
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(score(sums.sum(0))), float(low), float(high))


@lru_cache(maxsize=64)
def _block_counts(blocks: int, draws: int, seed: int) -> Array:
    """`(draws, blocks)`: how often each draw holds each block."""
    even = np.full(blocks, 1 / blocks)
    counts = np.random.default_rng(seed).multinomial(blocks, even, size=draws)
    return counts.astype(np.float64)


def equivalence(differences: ArrayLike, margin: float) -> Array:
    """p-values of two one-sided t-tests (TOST) that paired differences lie within a margin.

    Small where the mean difference is shown to be above -margin and below +margin: the larger of
    the two one-sided p-values (Schuirmann 1987, doi:10.1007/BF01068419). At p < .05 the 90%
    t-interval lies inside the margin.

    Args:
        differences: `(..., S)` one for each seed; at least two.
        margin: in the unit of the differences.

    Returns:
        `(...)` p-values.

    Example:
        >>> print(f"{equivalence([0.004, -0.002, 0.001, -0.003, 0.002], 0.01):.4f}")
        0.0009

    Source: Schuirmann (1987).
    """
    above = stats.ttest_1samp(differences, -margin, axis=-1, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, axis=-1, alternative="less").pvalue
    return np.maximum(above, below)


def equivalence_power(
    spread: ArrayLike, seeds: int, margin: float, difference: float = 0.0, alpha: float = 0.05
) -> Array:
    """Chance that `equivalence` rejects at `alpha`, for normal differences.

    Given the sample's standard deviation, the mean has to fall into an interval of known width;
    that normal probability is averaged over the chi distribution of the standard deviation
    (Phillips 1990, doi:10.1007/BF01063556, without his bivariate noncentral t).

    Args:
        spread: `(...)` true standard deviation of the paired differences.
        seeds: how many pairs.
        margin: of equivalence.
        difference: true mean difference.
        alpha: level of the test.

    Returns:
        `(...)` power.

    Example:
        >>> print(f"{equivalence_power(0.015, seeds=5, margin=0.02):.2f}")
        0.60

    Source: Phillips (1990).
    """
    free = seeds - 1
    middles = (np.arange(4000) + 0.5) / 4000
    sample = np.sqrt(stats.chi2.ppf(middles, free) / free)  # of the true standard deviation
    reach = stats.t.ppf(1 - alpha, free) * sample
    error = np.asarray(spread, dtype=np.float64)[..., None] / np.sqrt(seeds)
    upper = stats.norm.cdf((margin - difference) / error - reach)
    lower = stats.norm.cdf((-margin - difference) / error + reach)
    return np.maximum(upper - lower, 0).mean(-1)


def holm(p: ArrayLike) -> Array:
    """p-values of a family of tests, corrected by Holm (1979): `(...)`, as `p`.

    Rejecting where they are below 5% keeps the chance of any false rejection below 5%. (The
    function of statsmodels collects garbage at every call, half a second in a long session.)

    Args:
        p: `(...)` p-values.

    Returns:
        `(...)` corrected p-values.

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

    Omega squared of the main effects: ``(SS - df MS_error) / (SS_total + MS_error)``, its sums of
    squares taken within a seed, so that what a seed does to all combinations counts nowhere, and
    its error from the seeds' remainders, interactions with the seed (Hays 1963; Olejnik and Algina
    2003, doi:10.1037/1082-989X.8.4.434). A share may come out below 0. What is missing to 1 is
    interactions and noise.

    Args:
        values: `(S, ..., A, B, C)`: at least two seeds first, the levels of the three factors
            last; what lies between are separate designs.

    Returns:
        `(S, ..., 3)` shares.

    Example:
        >>> values = np.zeros((2, 2, 2, 2)) + np.array([0.0, 1.0])[:, None, None]  # first factor
        >>> variance_shares(values).tolist()
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]

    Source: Hays (1963); Olejnik and Algina (2003).
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


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage between 0 and 1, such as 0.95; got {level!r}")
