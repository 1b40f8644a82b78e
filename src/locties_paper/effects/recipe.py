"""What each part of an encoder and of its training is worth, on pilot places."""

import pandas as pd

from locties_paper.design import READS, leaks
from locties_paper.effects.effect import difference
from locties_paper.figures.charts import METRICS


def recipe(
    rows: pd.DataFrame, budget: float = 2.0, default: str = "recipe", read: str = READS[0]
) -> pd.DataFrame:
    """The score of each run minus that of a default run.

    Scores are means over all embedded tasks and over the open tasks without leaks.

    Args:
        rows: of the sweep ``recipe``, or of the pilot of another sweep.
        budget, default, read: the default run, with which all others are compared.

    Returns:
        One row for each contender, budget and reading, best first: change (its name without that of
        the default), budget, read, score (the mean), then the columns of `Effect`: the difference
        from the default, and its intervals over seeds and over tasks.
    """
    rows = rows[rows["metric"].isin(METRICS)]
    rows = rows[(rows["tier"] == "embedded") | ~leaks(rows)]
    rows = rows.assign(task=rows["tier"] + " " + rows["task"], draw=rows["seed"])
    run = ["encoder", "budget", "read"]
    first = rows[(rows[run] == [default, budget, read]).all(axis=1)]
    found = []
    for (name, pairs, reading), mine in rows.groupby(run):
        both = pd.concat([mine.assign(encoder="change"), first.assign(encoder="default")])
        found.append(
            {
                "change": name.removeprefix(f"{default}-"),
                "budget": pairs,
                "read": reading,
                "score": mine.groupby(["seed", "task"])["value"].mean().mean(),
                **difference(both, "change", "default")._asdict(),
            }
        )
    return pd.DataFrame(found).sort_values("value", ascending=False, ignore_index=True)
