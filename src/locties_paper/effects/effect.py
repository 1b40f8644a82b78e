"""A difference between two contenders, with two intervals: over seeds and draws, and over tasks."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
LEVEL = 0.95


class Effect(NamedTuple):
    """A mean difference in score.

    Attributes:
        value: mean over seeds, draws and tasks.
        low, high: 95% interval for other seeds and other draws of points, folds and labels.
        low_tasks, high_tasks: 95% interval for other tasks of the same kind.
        seeds, draws, tasks: how many of each.
    """

    value: float
    low: float
    high: float
    low_tasks: float
    high_tasks: float
    seeds: int
    draws: int
    tasks: int


def difference(rows: pd.DataFrame, one: str, other: str) -> Effect:
    """The score of one contender minus that of another, paired by task, draw and seed.

    Within a task the mean is taken over splits, probes and numbers of labels: filter rows first to
    look at one of them. A contender without training has one seed, which is paired with every seed
    of the other.

    Args:
        rows: with columns encoder, seed, draw, task, split, probe, labels and value.
        one, other: names in `encoder`.

    Example:
        >>> table = pd.DataFrame(
        ...     [(n, s, d, t, "block", "ridge", "all", v + s / 100 + d / 50)
        ...      for n, v in (("a", 0.8), ("b", 0.7))
        ...      for s in (1, 2) for d in (0, 1) for t in "xy"],
        ...     columns=["encoder", "seed", "draw", "task", "split", "probe", "labels", "value"])
        >>> round(difference(table, "a", "b").value, 3)
        0.1
    """
    cubes = [_cube(rows, name) for name in (one, other)]
    apart = np.subtract(*np.broadcast_arrays(*_alike(one, other, *cubes)))
    mean, low, high = crossed_interval(apart.mean(2))
    _, low_tasks, high_tasks = crossed_interval(apart.mean((0, 1))[None])
    return Effect(mean, low, high, low_tasks, high_tasks, *apart.shape)


def _cube(rows: pd.DataFrame, name: str) -> pd.Series:
    """Mean score by seed, draw and task."""
    mine = rows[rows["encoder"] == name]
    if not len(mine):
        raise ValueError(f"there are no rows of {name!r}")
    return mine.groupby(["seed", "draw", "task"])["value"].mean()


def _alike(one: str, other: str, a: pd.Series, b: pd.Series) -> list[Array]:
    """Both as arrays (seeds, draws, tasks), of the seeds, draws and tasks that both have."""
    for level in ("draw", "task"):
        alone = set(a.index.unique(level)) ^ set(b.index.unique(level))
        if alone:
            raise ValueError(f"{one!r} and {other!r} differ in {level}: {sorted(alone)}")
    cubes = []
    seeds = [set(each.index.unique("seed")) for each in (a, b)]
    shared = seeds[0] & seeds[1]
    for each, own in zip((a, b), seeds, strict=True):
        kept = sorted(own if len(own) == 1 else shared or own)
        wide = each.unstack(["draw", "task"]).sort_index(axis=1).loc[kept]  # noqa: PD010
        if wide.isna().any(axis=None):
            raise ValueError("a seed lacks rows of some draw and task: finish its runs")
        draws = wide.columns.unique("draw")
        cubes.append(wide.to_numpy().reshape(len(wide), len(draws), -1))
    if 1 not in (len(cubes[0]), len(cubes[1])) and not shared:
        raise ValueError(f"{one!r} and {other!r} share no seed")
    return cubes


def crossed_interval(values: Array) -> tuple[float, float, float]:
    """Mean of values (S, D) of crossed seeds and draws, and its 95% interval.

    Seeds and draws are random effects without replication. With mean squares of seeds, draws and
    rest, the variance of the mean is (MS_s + MS_d - MS_rest) / (S D), with Satterthwaite's degrees
    of freedom. With one seed or one draw it is a t-interval over the other.

    Example:
        >>> crossed_interval(np.array([[1.0, 2.0, 3.0]]))
        (2.0, -0.484..., 4.484...)

    Source: Satterthwaite (Biometrics Bulletin 2, 1946); Searle, Casella and McCulloch, *Variance
    Components* (1992), chapter 4.
    """
    seeds, draws = values.shape
    mean = float(values.mean())
    if seeds == 1 or draws == 1:
        half = (
            _half(values.var(ddof=1) / values.size, values.size - 1) if values.size > 1 else np.nan
        )
        return mean, mean - half, mean + half
    of_seeds, of_draws = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - of_seeds[:, None] - of_draws
    free = np.array([seeds - 1, draws - 1, (seeds - 1) * (draws - 1)])
    squares = np.array([draws * (of_seeds**2).sum(), seeds * (of_draws**2).sum(), (rest**2).sum()])
    parts = squares / free * np.array([1, 1, -1])
    # The estimate of a small component can be negative; the larger mean square is a lower bound.
    total = max(parts.sum(), parts[0], parts[1])
    if total <= 0:
        return mean, mean, mean
    half = _half(total / values.size, total**2 / (parts**2 / free).sum())
    return mean, mean - half, mean + half


def _half(variance: float, free: float) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, max(free, 1.0)) * np.sqrt(variance))
