"""What each part of the recipe for the encoders to use is worth, on pilot places."""

import pandas as pd

from locties_paper.design import READS, leaks
from locties_paper.effects.effect import difference
from locties_paper.figures.charts import METRICS

DEFAULT = "recipe"


def recipe(rows: pd.DataFrame, budget: float = 2.0) -> pd.DataFrame:
    """How far each change of one part is from the recipe, over open tasks without leaks and others.

    Args:
        rows: of the sweep ``recipe``.
        budget: of the runs that are compared; the recipe itself also has other budgets.

    Returns:
        One row for each change and reading, best first: change, budget, read, score (mean over
        embedded tasks and open tasks without leaks), then the columns of `Effect`: the difference
        from the recipe at `budget`, and its intervals over seeds and over tasks.
    """
    rows = rows[rows["metric"].isin(METRICS)]
    rows = rows[(rows["tier"] == "embedded") | ~leaks(rows)]
    rows = rows.assign(task=rows["tier"] + " " + rows["task"], draw=rows["seed"])
    run = ["encoder", "budget", "read"]
    default = rows[(rows[run] == [DEFAULT, budget, READS[0]]).all(axis=1)]
    found = []
    for (name, pairs, read), mine in rows.groupby(run):
        both = pd.concat([mine.assign(encoder="change"), default.assign(encoder="default")])
        found.append(
            {
                "change": name.removeprefix(f"{DEFAULT}-"),
                "budget": pairs,
                "read": read,
                "score": mine.groupby(["seed", "task"])["value"].mean().mean(),
                **difference(both, "change", "default")._asdict(),
            }
        )
    return pd.DataFrame(found).sort_values("value", ascending=False, ignore_index=True)
