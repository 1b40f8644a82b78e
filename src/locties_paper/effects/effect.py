"""A difference between two contenders, with two intervals: over replicates, and over tasks."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95


class Effect(NamedTuple):
    """A mean difference in score.

    Attributes:
        value: mean over replicates and tasks.
        low, high: 95% t-interval over replicates, each with its own seed, points, folds and labels.
        low_tasks, high_tasks: 95% t-interval over tasks: for other tasks of the same kind.
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


Names = str | tuple[str, ...]  # of a contender, or of several that stand for their mean
Contrast = tuple[str, Names, Names]  # a description, and what is compared


def beside(names: Names, ending: str) -> Names:
    """The names of contenders that are read beside something else."""
    return names + ending if isinstance(names, str) else tuple(name + ending for name in names)


def members(names: Names) -> set[str]:
    """The names of the contenders."""
    return {names} if isinstance(names, str) else set(names)


def difference(rows: pd.DataFrame, one: Names, other: Names) -> Effect:
    """The score of one contender minus that of another, paired by task and by the draws of both.

    Within a task the mean is taken over splits, probes and numbers of labels: filter rows first to
    look at one of them. A replicate is a seed with its draws. A contender without training has one
    seed, so there each draw is a replicate.

    Args:
        rows: with columns encoder, seed, draw, task and value.
        one, other: names in `encoder`. Several names stand for their mean.

    Example:
        >>> table = pd.DataFrame(
        ...     [(name, seed, draw, task, value + draw / 50)
        ...      for name, value in (("a", 0.8), ("b", 0.7))
        ...      for seed, draw in ((1, 0), (2, 1)) for task in "xy"],
        ...     columns=["encoder", "seed", "draw", "task", "value"])
        >>> round(difference(table, "a", "b").value, 3)
        0.1
    """
    (first, seeds), (second, others) = _scores(rows, one), _scores(rows, other)
    if alone := set(first.columns) ^ set(second.columns):
        raise ValueError(f"{one!r} and {other!r} differ in task: {sorted(alone)}")
    draws = first.index.intersection(second.index)
    if not len(draws):
        raise ValueError(f"{one!r} and {other!r} have no draw in common")
    apart, seeds, others = first.loc[draws] - second.loc[draws], seeds[draws], others[draws]
    replicate = max(seeds, others, key=lambda each: len(set(each)))
    if len(set(replicate)) == 1:
        replicate = pd.Series(apart.index, apart.index)
    replicates = apart.mean(axis=1).groupby(replicate).mean()
    value = float(apart.to_numpy().mean())
    return Effect(
        value,
        *interval(replicates.to_numpy(), value),
        *interval(apart.mean().to_numpy(), value),
        replicate.nunique(),
        *apart.shape,
    )


def _scores(rows: pd.DataFrame, name: Names) -> tuple[pd.DataFrame, pd.Series]:
    """Mean score by draw and task, and the seed of each draw."""
    mine = rows[rows["encoder"].isin(members(name))]
    if missing := members(name) - set(mine["encoder"]):
        raise ValueError(f"there are no rows of {', '.join(map(repr, sorted(missing)))}")
    of_all = set.intersection(*mine.groupby("encoder")["draw"].agg(set))
    mine = mine[mine["draw"].isin(of_all)]
    seeds = mine.groupby("draw")["seed"].unique()
    if (several := seeds[seeds.map(len) > 1]).size:
        raise ValueError(f"{name!r} has several seeds at draws {list(several.index)}")
    scores = mine.pivot_table(index="draw", columns="task", values="value", aggfunc="mean")
    if scores.isna().any(axis=None):
        raise ValueError(f"{name!r} lacks rows of some draw and task: finish its runs")
    return scores, seeds.str[0]


def interval(values: NDArray[np.float64], mean: float) -> tuple[float, float]:
    """The 95% t-interval of the mean of independent values (N,); NaN for a single one.

    Example:
        >>> interval(np.array([1.0, 2.0, 3.0]), 2.0)
        (-0.484..., 4.484...)
    """
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * stats.sem(values)
    return float(mean - half), float(mean + half)
