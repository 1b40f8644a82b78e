"""What each part of the recipe for the encoders to use is worth, on pilot places."""

import pandas as pd

from locties_paper.design import READS, leaks
from locties_paper.effects.effect import interval
from locties_paper.figures.charts import METRICS

DEFAULT = "recipe"


def recipe(rows: pd.DataFrame, budget: float = 2.0) -> pd.DataFrame:
    """The scores of each run without one part, and how far they are from the recipe's.

    Args:
        rows: of the sweep ``recipe``.
        budget: of the runs that are compared; the recipe itself also has other budgets.

    Returns:
        One row for each change and reading, best first: change, budget, read, open (mean over open
        tasks without leaks), embedded (mean over embedded tasks), difference (of the mean of both
        from the recipe's at `budget`), low and high (its 95% interval over seeds) and seeds.
    """
    rows = rows[rows["metric"].isin(METRICS)]
    kept = rows[(rows["tier"] == "embedded") | ~leaks(rows)]
    keys = ["encoder", "budget", "read", "seed"]
    by_task = kept.groupby([*keys, "tier", "task"])["value"].mean().reset_index()
    scores = by_task.pivot_table("value", keys, "tier")
    mean = scores.mean(axis=1)
    default = mean[DEFAULT, budget, READS[0]]
    found = []
    for (name, pairs, read), own in scores.groupby(level=keys[:3]):
        apart = (mean[name, pairs, read] - default).dropna()
        value = float(apart.mean())
        found.append(
            {
                "change": name.removeprefix(f"{DEFAULT}-"),
                "budget": pairs,
                "read": read,
                **own[["open", "embedded"]].mean(),
                "difference": value,
                **dict(zip(("low", "high"), interval(apart.to_numpy(), value), strict=True)),
                "seeds": len(apart),
            }
        )
    return pd.DataFrame(found).sort_values("difference", ascending=False, ignore_index=True)
