"""Rows of the study, named by contender, budget and reading."""

from functools import cache
from pathlib import Path

import pandas as pd

from locties.evaluation import BASELINES
from locties.modalities import MODALITIES
from locties.peers import PEERS
from locties.saved import published, read_config
from locties_paper.design import FIVE, LEAKING, leaks
from locties_paper.figures.charts import METRICS
from locties_paper.sweeps import BOOSTED, LEFT_OUT, RASTERS, SWEEPS, without


def read_rows(results: Path, sweep: str = "main") -> pd.DataFrame:
    """The scores of contenders and baselines of a sweep, in all replicates that they have.

    A contender at its best budget is named as `locties.evaluate` names it: ``"melt+harmonics_10"``
    is MELT beside harmonics. At another budget it is ``"melt@0.25+harmonics_10"``; there is
    ``"melt@1"`` too if 1 is the best. Column `leaks` says whether one of the five modalities holds
    what the task asks for. `results` is the folder of ``study_*.parquet``.
    """
    best = pd.read_parquet(results / f"study_{sweep}_chosen.parquet").set_index("contender")
    trained = pd.read_parquet(results / f"study_{sweep}_table.parquet")
    chosen = trained[trained["budget"] == trained["encoder"].map(best["budget"])]
    given = trained["encoder"] + trained["budget"].map("@{:g}".format)
    rows = pd.concat([chosen, trained.assign(encoder=given)])
    rows = rows.assign(encoder=rows["encoder"] + rows["read"].str.removeprefix("output"))
    baselines = results / f"study_{sweep}_baselines.parquet"
    if baselines.exists():
        rows = pd.concat([rows, pd.read_parquet(baselines)])
    rows = rows[rows["metric"].isin(METRICS)]
    return rows.assign(leaks=leaks(rows))


def shared(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the draws that all contenders have, so that their means can be compared."""
    draws = set.intersection(*rows.groupby("encoder")["draw"].agg(set))
    return rows[rows["draw"].isin(draws)]


def without_leaks(rows: pd.DataFrame, left_out: pd.DataFrame) -> pd.DataFrame:
    """Rows of all open tasks, with each contender's leaking modalities left out.

    Where a modality of a contender leaks into a task, a run without it stands for the contender.
    Contenders and draws that lack such a run are left out.

    Args:
        rows: of ``main``, from `read_rows`.
        left_out: of the sweep of that name.
    """
    rows = rows[rows["tier"] == "open"]
    kept = [rows[~rows["leaks"]]]
    for leaking in LEFT_OUT:
        of = [t for t, found in LEAKING["open"].items() if set(found) & set(FIVE) == set(leaking)]
        mine = rows[rows["task"].isin(of)]
        pairs = zip(mine["encoder"], mine["task"], strict=True)
        kept.append(mine[[not seen(name) & set(LEAKING["open"][task]) for name, task in pairs]])
        ending = without("", leaking)
        parts = left_out["encoder"].str.partition("+")
        others = left_out[parts[0].str.endswith(ending) & left_out["task"].isin(of)]
        kept.append(others.assign(encoder=others["encoder"].str.replace(ending, "", regex=False)))
    found = pd.concat(kept)
    tasks = found.groupby(["encoder", "draw"])["task"].transform("nunique")
    return found[tasks == rows["task"].nunique()]


@cache
def seen(encoder: str) -> frozenset[str]:
    """The modalities that a contender of the study was trained on or reads.

    Example:
        >>> sorted(seen("clip-rain@0.25+harmonics_10"))
        ['rain']
    """
    trained = {n: each for sweep in SWEEPS.values() for n, each in sweep.contenders.items()}
    found: set[str] = set()
    for part in encoder.split("+"):
        name = part.partition("@")[0]
        if name in trained:
            found |= set(trained[name].modalities) if trained[name].trains else set()
        elif name in ("raw", BOOSTED):
            found |= set(RASTERS)
        elif name in published():
            origin = set(read_config(name)["origin"]["modalities"])
            found |= origin if origin <= set(MODALITIES) else set(FIVE)  # of an earlier edition
        elif name not in BASELINES and name not in PEERS:
            raise ValueError(
                f"encoder {encoder!r}: {name!r} is in no sweep of locties_paper.sweeps, so "
                "its modalities, and what they leak, are unknown: add it there"
            )
    return frozenset(found)
