"""Rows of the study, named by contender, budget and reading."""

from pathlib import Path

import pandas as pd

from locties_paper.design import HARMONICS, leaks
from locties_paper.figures.charts import METRICS

__all__ = ["HARMONICS", "read_rows", "shared"]


def read_rows(results: Path, kind: str = "main") -> pd.DataFrame:
    """The scores of contenders and baselines in all replicates that they have.

    A contender at its best budget is named as `locties.evaluate` names it: ``"melt+harmonics_10"``
    is MELT beside harmonics. At another budget it is ``"melt@0.25+harmonics_10"``; there is
    ``"melt@1"`` too if 1 is the best. Column `leaks` says whether one of the five modalities holds
    what the task asks for.

    Args:
        results: folder of ``study_*.parquet``.
        kind: ``"main"`` or ``"crossed"``.
    """
    best = pd.read_parquet(results / f"study_{kind}_chosen.parquet").set_index("contender")
    trained = pd.read_parquet(results / f"study_{kind}_table.parquet")
    chosen = trained[trained["budget"] == trained["encoder"].map(best["budget"])]
    given = trained["encoder"] + trained["budget"].map("@{:g}".format)
    rows = pd.concat([chosen, trained.assign(encoder=given)])
    rows = rows.assign(encoder=rows["encoder"] + rows["read"].str.removeprefix("output"))
    if kind == "main":
        rows = pd.concat([rows, pd.read_parquet(results / "study_main_baselines.parquet")])
    rows = rows[rows["metric"].isin(METRICS)]
    return rows.assign(leaks=leaks(rows))


def shared(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the draws that all contenders have, so that their means can be compared."""
    draws = set.intersection(*rows.groupby("encoder")["draw"].agg(set))
    return rows[rows["draw"].isin(draws)]
