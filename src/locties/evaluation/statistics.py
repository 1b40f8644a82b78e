"""Intervals over training seeds, and over test points that depend on their neighbours."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean or a score, with the lower and the upper end of its interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of one score over two or more training seeds, with its t-interval."""
    from scipy import stats

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
    """Score over all points, with the percentile interval of a bootstrap over whole blocks.

    Points near each other have similar errors, so an interval from resampled points would be too
    narrow. Every score is a function of sums over points; a resample weights the sums of the
    blocks.

    Args:
        terms: `(N, S)`, the contribution of each point to the S sums.
        blocks: `(N,)` integers.
        score: from sums `(..., S)` to scores `(...)`; NaN if it is not defined; such resamples are
            dropped.
        draws: number of resamples. They are the same for the same `seed` and number of blocks, so
            that the intervals of two encoders can be compared.
        level: coverage of the interval.
        seed: determines the resamples.

    Example:
        >>> hit = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
        >>> block_bootstrap(hit, [0, 0, 1, 2], lambda sums: sums[..., 0] / sums[..., 1]).mean
        0.75

    Source: Cameron, Gelbach and Miller, "Bootstrap-based improvements for inference with clustered
    errors" (Review of Economics and Statistics 90, 2008).
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
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return Interval(float(score(sums.sum(0))), np.nan, np.nan)
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(score(sums.sum(0))), float(low), float(high))


@lru_cache(maxsize=64)
def _block_counts(blocks: int, draws: int, seed: int) -> Array:
    """`(draws, blocks)`: how often each resample contains each block."""
    even = np.full(blocks, 1 / blocks)
    counts = np.random.default_rng(seed).multinomial(blocks, even, size=draws)
    return counts.astype(np.float64)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage between 0 and 1, such as 0.95; got {level!r}")
