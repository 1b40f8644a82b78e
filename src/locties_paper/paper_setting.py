"""The paper's tasks, probe and range of labels, as near as open data come.

The paper is reported to score elevation, population, country and biome by SatCLIP's probe, with 243
labels to 100,000. Here the budgets are powers of three from 243 and 40,000, as far as the public
labels go. Which points the paper used is not known to us.

Source: arXiv 2606.20167, by way of public digests.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import locties
from locties import Task
from locties.apply.metadata import Encoder
from locties.evaluation import public_tasks
from locties.evaluation.splits import folds

BUDGETS = (243, 729, 2187, 6561, 19683, 40000)
EVERY = 10**6  # points: more than any of these tasks has
ON_LAND = 50_000  # points for the task of countries, which can have any number

TASKS: dict[str, Callable[[], Task]] = {
    "elevation": partial(public_tasks.elevation, points=EVERY),
    "population": partial(public_tasks.population, points=EVERY),
    "country": partial(public_tasks.country, points=ON_LAND),
    "biome": partial(public_tasks.biome, points=EVERY),
}


def budgets(task: Task, split: str = "random") -> list[int | str]:
    """The budgets that a task has labels for, outside its largest fold; then "all"."""
    available = len(task.target) - np.bincount(folds(task.lonlat, split)).max()
    return [*(labels for labels in BUDGETS if labels < available), "all"]


def evaluate(
    encoder: str | Path | Encoder,
    tasks: Sequence[Task],
    *,
    name: str | None = None,
    splits: Sequence[str] = ("random",),
    probes: Sequence[str] = ("mlp",),
    seed: int = 0,
) -> pd.DataFrame:
    """Score an encoder with every budget of each task: rows as of `locties.evaluate`.

    Args:
        encoder: as in `locties.evaluate`, and so are name, probes and seed.
        tasks: made by `TASKS`, or others. They are made once for many encoders.
        splits: "random", as in the paper, "block" or both.

    Example:
        >>> from locties_paper import paper_setting
        >>> tasks = [paper_setting.TASKS[name]() for name in ("elevation", "biome")]
        >>> table = paper_setting.evaluate("harmonics_10", tasks, probes=["ridge"])
        >>> table.groupby("task", sort=False)["labels"].unique().map(list).to_dict()
        {'elevation': ['all'], 'biome': ['243', 'all']}
    """
    tables = [
        locties.evaluate(
            encoder,
            task,
            name=name,
            splits=split,
            probes=probes,
            labels=budgets(task, split),
            seed=seed,
        )
        for task in tasks
        for split in splits
    ]
    return pd.concat(tables, ignore_index=True)
