"""Are `small`, `base` and `large` better than coordinates, raw values, GeoCLIP and `best`?"""

from collections.abc import Iterable

import pandas as pd

from locties_paper.design import HARMONICS
from locties_paper.effects.effect import Contrast, difference, interval
from locties_paper.sweeps import FAMILY

OTHERS = {"harmonics": "harmonics_10", "raw values": "raw", "GeoCLIP": "geoclip", "best": "best"}


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    raw = f"raw{HARMONICS}"
    return [
        *(
            (f"{name} minus {description}", name, other)
            for name in FAMILY
            for description, other in OTHERS.items()
        ),
        ("large joined with raw values minus raw values", f"large+{raw}", raw),
    ]


def by_task(rows: pd.DataFrame, encoder: str, others: Iterable[str]) -> pd.DataFrame:
    """What an encoder gains over each other contender, task by task.

    Args:
        rows: from `read_rows`.
        encoder, others: names in its column encoder.

    Returns:
        One row for each split, task and other contender, tasks with the largest gains first: split,
        task, other, value, low and high (the 95% interval over draws of points), and draws.
    """
    found = []
    for (split, task), cell in rows.groupby(["split", "task"]):
        for other in others:
            effect = difference(cell, encoder, other)
            kept = {"value": effect.value, "low": effect.low, "high": effect.high}
            found.append(
                {"split": split, "task": task, "other": other, **kept, "draws": effect.draws}
            )
    table = pd.DataFrame(found)
    order = table.groupby("task")["value"].mean().sort_values(ascending=False).index
    return table.sort_values("task", key=lambda tasks: order.get_indexer(tasks), ignore_index=True)


def ranks(rows: pd.DataFrame, encoders: Iterable[str]) -> pd.DataFrame:
    """The mean rank of each contender, over tasks, splits, probes and numbers of labels.

    Args:
        rows: from `read_rows`, of the tasks that count.
        encoders: those to rank, by their names in its column encoder.

    Returns:
        One row for each, best first: encoder, rank (1 is the best), low and high (its 95% interval
        over draws of points) and draws.
    """
    cell = ["draw", "task", "split", "probe", "labels"]
    kept = rows[rows["encoder"].isin(list(encoders))]
    wide = kept.pivot_table("value", cell, "encoder", dropna=False).dropna(how="any")
    by_draw = wide.rank(axis=1, ascending=False).groupby("draw").mean()
    found = [
        (name, mean, *interval(by_draw[name].to_numpy(), mean), len(by_draw))
        for name, mean in by_draw.mean().sort_values().items()
    ]
    return pd.DataFrame(found, columns=["encoder", "rank", "low", "high", "draws"])
