"""What each part of an encoder and of its training is worth, on pilot places."""

import pandas as pd

from locties_paper.design import FIVE, READS, leaks
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


def ceiling(rows: pd.DataFrame, pilot: pd.DataFrame) -> pd.DataFrame:
    """Does the encoder limit the score, or the objective? Both sides are joined with harmonics.

    Args:
        rows: of the sweep ``recipe``.
        pilot: of the pilot of the sweep ``crossed``.

    Returns:
        Five rows with the columns of `recipe`. "grid, regression" and "grid, contrast": a learned
        grid minus harmonics of degree 10. "paired" and "unpaired": contrast at its best number of
        pairs minus regression, with the grid. "five": five modalities minus the best one, whose
        name is the change.
    """

    def against(runs: pd.DataFrame, budget: float, default: str) -> pd.DataFrame:
        table = recipe(runs, budget, default, READS[1])
        return table[table["read"] == READS[1]]  # the best first

    def first(table: pd.DataFrame, change: str) -> pd.Series:
        return table[table["change"] == change].iloc[0]

    grid, few = "nt_xent-hash_grid-residual", pilot["budget"].min()
    pilot = pilot[pilot["budget"] == few]
    singles = against(pilot, few, grid)
    single = singles[singles["change"].isin(FIVE)].iloc[0]["change"]
    same = rows[rows["budget"] == 2.0]
    found = {
        "grid, regression": first(against(same, 2.0, "recipe-harmonics_10"), "recipe"),
        "grid, contrast": first(against(pilot, few, "nt_xent-harmonics_10-residual"), grid),
        "paired": first(against(rows, 2.0, "recipe"), "contrast"),
        "unpaired": first(against(rows, 2.0, "recipe-unpaired"), "recipe-unpaired_contrast"),
        "five": first(against(pilot, few, f"{grid}-{single}"), grid).replace(grid, single),
    }
    return pd.DataFrame(found).T
