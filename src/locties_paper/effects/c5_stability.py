"""C5: is alternating training stable?

Three measures of SALT, each beside MELT at the same times, since all encoders change as they train:

- *spread*: the standard deviation over seeds of the headline score at the end;
- *drift*: the change of the headline score between the ends of a modality's own turns;
- *forgetting*: the loss in the tasks into which a modality leaks, from the end of its turn to just
  before its next one.

`spread` takes the replicates of ``main``, where points and folds vary with the seed.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from locties_paper.design import LEAKING, leaks
from locties_paper.effects.effect import LEVEL, interval
from locties_paper.effects.rows import shared
from locties_paper.figures.charts import METRICS

COLUMNS = ["measure", "contender", "modality", "value", "low", "high", "seeds"]


def spread(rows: pd.DataFrame, contenders: Sequence[str]) -> pd.DataFrame:
    """The standard deviation of the headline score over the replicates that all contenders have.

    Args:
        rows: from `read_rows`.
        contenders: names in its column encoder.

    Returns:
        One row for each: contender, value, low, high (95%, by chi-squared) and replicates.
    """
    kept = rows[(rows["tier"] == "open") & ~rows["leaks"] & rows["encoder"].isin(contenders)]
    tasks = shared(kept).groupby(["encoder", "draw", "task"])["value"].mean()
    scores = tasks.groupby(["encoder", "draw"]).mean()
    found = [(name, *_spread(scores[name])) for name in contenders]
    return pd.DataFrame(found, columns=["contender", "value", "low", "high", "replicates"])


def stability(rows: pd.DataFrame) -> pd.DataFrame:
    """The measures of both contenders, with 95% intervals over seeds.

    A modality that leaks into no task has no forgetting.

    Args:
        rows: of the sweep ``turns``; without rows of SALT there is nothing to measure.

    Returns:
        Columns `COLUMNS`; modality is "" for the spread.
    """
    rows = rows[rows["metric"].isin(METRICS)]
    clean = _by_epoch(rows[(rows["tier"] == "open") & ~leaks(rows)])
    found: list[tuple[object, ...]] = []
    for contender in clean.index.unique("encoder"):
        own = clean.loc[contender]
        found.append(("spread", contender, "", *_spread(own.iloc[:, -1])))
    turns = rows[rows["encoder"] == "salt"].groupby("active", sort=False)["epoch"].unique()
    for modality, ends in turns.items():
        drift = [clean[later] - clean[end] for end, later in pairwise(sorted(ends))]
        found += _means("drift", str(modality), drift)
        near = _by_epoch(rows[_leak(rows, str(modality))])
        if len(near):
            lost = [near[end] - near[later - 1] for end, later in pairwise(sorted(ends))]
            found += _means("forgetting", str(modality), lost)
    return pd.DataFrame(found, columns=COLUMNS)


def _by_epoch(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean score by encoder and seed (rows) and epoch (columns); tasks count alike."""
    keys = ["encoder", "seed"]
    tasks = rows.groupby([*keys, "epoch", "tier", "task"])["value"].mean().reset_index()
    return tasks.pivot_table("value", keys, "epoch")


def _leak(rows: pd.DataFrame, modality: str) -> list[bool]:
    """Which rows are of tasks into which a modality leaks."""
    pairs = zip(rows["tier"], rows["task"], strict=True)
    return [modality in LEAKING[tier].get(task, ()) for tier, task in pairs]


def _means(measure: str, modality: str, changes: list[pd.Series]) -> list[tuple[object, ...]]:
    """A row for each contender: the mean of changes by encoder and seed."""
    if not changes:  # a single turn
        return []
    by_seed = pd.concat(changes, axis=1).mean(axis=1)
    return [
        (measure, name, modality, own.mean(), *interval(own.to_numpy(), own.mean()), len(own))
        for name, own in by_seed.groupby("encoder")
    ]


def _spread(values: pd.Series) -> tuple[float, float, float, int]:
    """The standard deviation with its chi-squared interval, and how many values."""
    n, deviation = len(values), float(values.std())
    low, high = (
        deviation * np.sqrt((n - 1) / stats.chi2.ppf(0.5 + side * LEVEL / 2, n - 1))
        for side in (1, -1)
    )
    return deviation, float(low), float(high), n
