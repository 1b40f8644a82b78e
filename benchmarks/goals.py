"""Compare the timings with their goals. Ratios of times are taken within each round."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd


class Goal(NamedTuple):
    """A quantity and its bound.

    Attributes:
        what: a description.
        case, size: select the rows to read.
        contender: its time is the numerator, or its memory is the quantity.
        against: its time is the denominator; None for memory, in MB.
        target: the bound.
        at_most: True for an upper bound, False for a lower one.
    """

    what: str
    case: str
    size: int
    contender: str
    against: str | None
    target: float
    at_most: bool = False


GOALS = [
    Goal(
        "harmonics of 2,048 points, SatCLIP to locties",
        *("harmonics", 2048, "SatCLIP analytic", "locties", 60),
    ),
    Goal(
        "harmonics of 100,000 points, SatCLIP to locties",
        *("harmonics", 100_000, "SatCLIP analytic", "locties", 15),
    ),
    Goal(
        "harmonics of 100,000 points, sphericart in float64 to locties",
        *("harmonics", 100_000, "sphericart float64", "locties", 1),
    ),
    Goal(
        "harmonics of 100,000 points, sphericart in float64 with 4 kB pages to locties",
        *("harmonics", 100_000, "sphericart float64, 4 kB pages", "locties", 1),
    ),
    Goal("step, SatCLIP to locties", "step", 2048, "SatCLIP", "locties", 5),
    Goal("step, SatCLIP to locties in bfloat16", "step", 2048, "SatCLIP", "locties bfloat16", 8),
    Goal(
        "step, SatCLIP in Lightning to locties",
        *("step", 2048, "SatCLIP in Lightning", "locties", 6),
    ),
    Goal(
        "step, SatCLIP in Lightning to locties in bfloat16",
        *("step", 2048, "SatCLIP in Lightning", "locties bfloat16", 6),
    ),
    Goal(
        "step, MELT of three to one modality",
        *("step", 2048, "locties MELT of three", "locties", 1.3, True),
    ),
    # Two medians of the same work may differ by 5%.
    Goal(
        "step, SALT to MELT, of three each",
        *("step", 2048, "locties SALT of three", "locties MELT of three", 1.05, True),
    ),
    Goal("grid, SatCLIP to locties", "grid", 1_036_800, "SatCLIP", "locties", 30),
    Goal(
        "MB that the loss of 32,768 pairs in one direction adds",
        *("loss", 32_768, "locties modality_to_location", None, 200, True),
    ),
    Goal(
        "MB that the symmetric loss of 32,768 pairs adds",
        *("loss", 32_768, "locties symmetric", None, 200, True),
    ),
]


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each goal and number of threads at which its contenders were measured.

    Args:
        table: rows of ``side_by_side.py``, with the seconds of each round in `times`.

    Returns:
        Columns goal, threads, case, size, contender, against; measured, least and largest: the
        median, minimum and maximum of the ratio over rounds, or megabytes; bound ("at least" or
        "at most") and target; met; best: the ratio if `against` took only its floor, where no
        ratio could be better.
    """
    rows = table.set_index(["threads", "case", "size", "contender"])
    judged = []
    for goal, threads in product(GOALS, dict.fromkeys(table["threads"])):
        first, second = (
            (threads, goal.case, goal.size, name) for name in (goal.contender, goal.against)
        )
        if first not in rows.index or (goal.against is not None and second not in rows.index):
            continue
        best = np.nan
        if goal.against is None:
            values = np.array([rows.loc[first, "megabytes"]])
        else:
            values = np.divide(rows.loc[first, "times"], rows.loc[second, "times"])
            if not goal.at_most:
                best = rows.loc[first, "seconds"] / rows.loc[second, "floor"]
        measured = float(np.median(values))
        judged.append(
            {
                "goal": goal.what,
                "threads": threads,
                "case": goal.case,
                "size": goal.size,
                "contender": goal.contender,
                "against": goal.against,
                "measured": measured,
                "least": values.min(),
                "largest": values.max(),
                "bound": "at most" if goal.at_most else "at least",
                "target": float(goal.target),
                "met": measured <= goal.target if goal.at_most else measured >= goal.target,
                "best": best,
            }
        )
    return pd.DataFrame(judged)
