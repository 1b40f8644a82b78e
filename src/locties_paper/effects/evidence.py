"""The rows that claims are judged by, and the conditions they must meet.

A verdict needs rows of one tier, one profile, one version of the data and one kind of device, in
every cell (task × split × probe). If something is missing, `Undecided` says what. Seeds from 100 on
belong to the pilot, which fixes the margin and chooses the strongest baseline. No test reads them.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from locties.evaluation.splits import SPLITS
from locties.modalities import EMBEDDED
from locties_paper import results, study
from locties_paper.results import CELL
from locties_paper.study import FIRST_PILOT_SEED

Array = NDArray[np.float64]

SEEDS = 10  # for a verdict
FEWER_SEEDS = 5  # for tests that look for an effect: same error rate, less power
FEWEST_TASKS = 4  # as in the paper
PROBES = ("ridge", "knn")


class Setting(NamedTuple):
    """The values that all rows behind one verdict share."""

    tier: str
    profile: str
    device: str


class Tables(NamedTuple):
    """Rows that the tests read.

    Attributes:
        runs: scores from `locties.evaluate`, with provenance.
        histories: of training, with columns encoder and seed.
        along: scores of checkpoints within runs: columns of `runs`, and pairs.
        erasure: R² of each modality's content from its embeddings, with provenance.
        modalities: of the study that made the rows.
    """

    runs: pd.DataFrame
    histories: pd.DataFrame
    along: pd.DataFrame
    erasure: pd.DataFrame
    modalities: tuple[str, ...] = EMBEDDED


class Undecided(Exception):
    """The reason why the rows carry no verdict."""


class Scores(NamedTuple):
    """Scores of runs in every cell, paired by seed."""

    setting: Setting
    cells: list[tuple[str, str, str]]
    seeds: list[int]
    value: dict[str, Array]  # by run, (cells, seeds)
    note: str


def read_tables(folder: str | Path = "") -> Tables:
    """The tables in a folder of results, by default the published ones. Some may be empty."""
    runs, histories = results.read(folder)
    folder = Path(folder) if folder else results.PUBLISHED_ROWS

    def others(name: str) -> list[pd.DataFrame]:
        path = folder / f"{name}.parquet"
        return [pd.read_parquet(path)] if path.exists() else []

    return Tables(
        pd.concat([runs, *others("sweeps")], ignore_index=True),
        pd.concat([histories, *others("sweeps_histories")], ignore_index=True),
        next(iter(others("scores_along")), runs.iloc[:0].assign(pairs=0)),
        next(iter(others("erasure")), runs.iloc[:0]),
        study.modalities(results.design(folder)),
    )


def tested_scores(runs: pd.DataFrame, needed: Sequence[str]) -> Scores:
    """`Scores` of the test seeds, at the test points."""
    return _paired(runs[(runs["seed"] < FIRST_PILOT_SEED) & (runs["points_seed"] == 0)], needed)


def _paired(table: pd.DataFrame, needed: Sequence[str]) -> Scores:
    """Scores of the seeds that every run has in every cell. The note names the seeds left out."""
    # Take every tier: `setting_of` refuses a mix and names it.
    parts = [results.scores(part, tier=tier) for tier, part in table.groupby("tier", sort=False)]
    rows = pd.concat(parts) if parts else table
    rows = rows_of_runs(rows[np.isfinite(rows["value"])], needed, "scores")
    twice = rows[rows.duplicated([*CELL, "encoder", "seed"])]
    setting = setting_of(rows)
    if len(twice):
        raise ValueError(
            f"two scores of {twice.iloc[0]['encoder']!r}, seed {twice.iloc[0]['seed']}, in "
            f"{' '.join(twice.iloc[0][CELL])}: keep one row for each run, cell and seed"
        )
    tasks = list(dict.fromkeys(rows["task"]))
    if len(tasks) < FEWEST_TASKS:
        raise Undecided(f"{len(tasks)} tasks, and the test needs {FEWEST_TASKS}")
    cells = list(product(tasks, SPLITS, PROBES))
    found = sorted(set(rows["seed"]))
    wide = rows.pivot(index=CELL, columns=["encoder", "seed"], values="value")  # noqa: PD010
    wide = wide.reindex(index=cells, columns=list(product(needed, found)))
    values = wide.to_numpy().reshape(len(cells), len(needed), len(found))
    there = np.isfinite(values)
    for j, i in np.argwhere(~there.any(-1)):
        raise Undecided(f"no score of {needed[i]} in {' '.join(cells[j])}")
    whole = there.all((0, 1))
    seeds = [seed for seed, complete in zip(found, whole, strict=True) if complete]
    if len(seeds) < 2:
        raise Undecided(f"{len(seeds)} seeds complete in all runs")
    dropped = [str(seed) for seed in found if seed not in seeds]
    note = f"seeds left out, as a run lacks them: {', '.join(dropped)}" if dropped else ""
    kept = values[..., whole]
    return Scores(setting, cells, seeds, {run: kept[:, i] for i, run in enumerate(needed)}, note)


def setting_of(rows: pd.DataFrame) -> Setting:
    """The setting that all rows share. Raises `Undecided` if they mix several."""
    columns = {
        "tier": rows["tier"],
        "profile": rows["profile"],
        "device": pd.Series(np.where(rows["device"] == "cpu", "cpu", "gpu")),
        "data": rows["data"],
    }
    names = {what: sorted(set(column)) for what, column in columns.items()}
    for what, found in names.items():
        if len(found) > 1:
            raise Undecided(
                f"the rows mix several of {what}: {', '.join(map(str, found))}; "
                "a verdict rests on one"
            )
    return Setting(names["tier"][0], names["profile"][0], names["device"][0])


def rows_of_runs(table: pd.DataFrame, needed: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of the runs needed. Raises `Undecided` if a run has none."""
    present = set(table["encoder"])
    absent = [run for run in needed if run not in present]
    if absent:
        named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise Undecided(
            f"{what} of {len(absent)} of the {len(needed)} runs needed are missing ({named})"
        )
    return table[table["encoder"].isin(needed)]


def missing_seeds(n: int, needed: int = SEEDS) -> list[str]:
    """A note if there are fewer seeds than a test needs."""
    return [f"{n} of the {needed} seeds needed"] if n < needed else []


def require_equal_pairs(histories: pd.DataFrame, parts: Mapping[str, int]) -> None:
    """Raise `Undecided` unless all runs saw the same number of pairs for each part, within 2%."""
    rows = rows_of_runs(histories[histories["seed"] < FIRST_PILOT_SEED], list(parts), "histories")
    seen = rows.groupby("encoder")["pairs"].max()
    for_each = seen / pd.Series(parts)
    if for_each.max() > 1.02 * for_each.min():
        least, most = for_each.idxmin(), for_each.idxmax()
        raise Undecided(f"pairs seen are not equal: {least} {seen[least]:,}, {most} {seen[most]:,}")
