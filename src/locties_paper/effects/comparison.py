"""Compare one encoder with others: differences of mean score and of mean rank, paired by seed.

`contenders` and `comes_first` were written before the encoder that they judge in the book was
scored on the open tier.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from locties._util.registry import unknown
from locties.evaluation.statistics import mean_interval
from locties_paper.effects.judging import METHODS, two_modality_runs
from locties_paper.effects.statistics import ALPHA, holm
from locties_paper.results import CELL

APPENDED = ("", "+xyz", "+harmonics_10")
RAW = ("constant", "xyz", "harmonics_10", "harmonics_40")
# Functions without a seed: their rows have one seed only.
SEEDLESS = (*RAW, "geoclip", "satclip")


def contenders(modalities: Sequence[str]) -> tuple[str, ...]:
    """The encoders that `best` must beat, on a study's modalities.

    Every baseline and peer, the two-modality runs, and MELT and SALT on all modalities. Encoders
    with weights also compete with raw coordinates appended.
    """
    trained = ("untrained", "geoclip", *two_modality_runs(modalities), *METHODS)
    return (*RAW, *(f"{name}{appended}" for name in trained for appended in APPENDED))


def difference_from_others(rows: pd.DataFrame, encoder: str) -> pd.DataFrame:
    """One encoder minus every other, in mean score over all cells and in mean rank.

    A cell is a task, split and probe. Encoders are ranked within each cell and seed.

    Args:
        rows: one score for each encoder, cell and seed, from `locties_paper.results.scores`.
        encoder: the one to compare; the others need scores at its seeds, unless they are
            `SEEDLESS`.

    Returns:
        A row for each encoder, highest mean first. ``mean`` and ``rank`` are over cells and seeds.
        ``difference``, ``low``, ``high``: the encoder's mean minus the row's, with its 95%
        t-interval over n seeds. ``p`` is one-sided, for a difference above 0. ``rank_difference``,
        ``rank_low``, ``rank_high``, ``rank_p``: the same for the row's mean rank minus the
        encoder's. Positive values favour the encoder. The intervals leave out the choice of points
        and folds, which matters more.

    Example:
        >>> rows = pd.DataFrame({"encoder": ["a", "a", "xyz"], "seed": [2, 3, 0], "task": "country",
        ...                      "split": "block", "probe": "knn", "value": [0.6, 0.7, 0.5]})
        >>> print(f"{difference_from_others(rows, 'a').loc['xyz', 'difference']:.2f}")
        0.15

    Source: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets" (JMLR 7, 2006),
    compares mean ranks over data sets; here they are over cells.
    """
    wide = rows.pivot(index=CELL, columns=["encoder", "seed"], values="value")  # noqa: PD010
    names = list(dict.fromkeys(wide.columns.get_level_values("encoder")))
    if encoder not in names:
        raise unknown("encoder of these rows", encoder, names)
    seeds = sorted(wide[encoder].columns)
    if len(names) < 2:
        raise ValueError(f"the rows are of {encoder!r} alone: add those of others")
    if len(seeds) < 2:
        raise ValueError(f"{encoder!r} has {len(seeds)} seed: differences need at least two")
    values = np.stack([_by_seed(wide[name], name, seeds) for name in names])
    means = values.mean(axis=1)  # (encoders, seeds)
    ranks = stats.rankdata(-values, axis=0).mean(axis=1)
    chosen = names.index(encoder)
    table: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"encoder": name, "mean": means[i].mean(), "rank": ranks[i].mean()}
        if i != chosen:
            row |= {"n": len(seeds), **_difference(means[chosen] - means[i])}
            in_rank = _difference(ranks[i] - ranks[chosen])
            row |= {f"rank_{column}": value for column, value in in_rank.items()}
        table.append(row)
    return pd.DataFrame(table).set_index("encoder").sort_values("mean", ascending=False)


def _by_seed(scores: pd.DataFrame, name: str, seeds: list[int]) -> Any:
    """Scores `(cells, seeds)`. An encoder without seeds has one score, repeated for each seed."""
    if scores.shape[1] == 1 and name.partition("+")[0] in SEEDLESS:
        scores = pd.concat([scores] * len(seeds), axis=1, keys=seeds)
    elif missing := sorted(set(seeds) - set(scores.columns)):
        raise ValueError(f"{name!r} has no score of seed {missing[0]}: judge it on the same seeds")
    else:
        scores = scores[seeds]
    if scores.isna().any(axis=None):
        cell = " ".join(scores.index[scores.isna().any(axis=1)][0])
        raise ValueError(f"{name!r} lacks a score in {cell}: every cell counts")
    return scores.to_numpy()


def _difference(values: np.ndarray) -> dict[str, float]:
    mean, low, high = mean_interval(values)
    if np.ptp(values) == 0:  # for example, the same rank at every seed
        p = 0.0 if mean > 0 else 1.0
    else:
        p = float(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    return {"difference": mean, "low": low, "high": high, "p": p}


def comes_first(table: pd.DataFrame) -> dict[str, bool]:
    """Whether the encoder comes before every other, by "mean" and by "rank".

    Every one-sided t-test in a table of `difference_from_others` must pass at 5%. This is an
    intersection-union test (Berger, Technometrics 24, 1982), so no correction is needed.

    Example:
        >>> comes_first(pd.DataFrame({"p": [np.nan, 0.01], "rank_p": [np.nan, 0.2]}))
        {'mean': True, 'rank': False}
    """
    others = table[table["p"].notna()]
    return {
        "mean": bool((others["p"] < ALPHA).all()),
        "rank": bool((others["rank_p"] < ALPHA).all()),
    }


def effect_of_parts(rows: pd.DataFrame, whole: str) -> pd.DataFrame:
    """The loss in score when a part of a recipe is left out, for all cells and for each probe.

    Args:
        rows: scores of the whole and of the runs that lack a part, as for `difference_from_others`.
        whole: its name.

    Returns:
        Rows for `charts.draw_forest`: ``group`` is "both probes" or a probe, ``cell`` is the run,
        ``value`` is the whole minus that run. One-sided t-tests at 5%, with Holm's correction in
        the group, decide ``verdict``: *better* if the whole scores higher, *worse* if lower.
    """
    groups = {"both probes": rows} | dict(list(rows.groupby("probe", sort=False)))
    tables = []
    for group, part in groups.items():
        table = difference_from_others(part, whole).drop(whole).reset_index(names="cell")
        p, p_against = holm(table["p"]), holm(1 - table["p"])
        verdict = np.select([p < ALPHA, p_against < ALPHA], ["better", "worse"], "unclear")
        kept = table[["cell", "low", "high"]].assign(
            value=table["difference"], p=p, p_against=p_against, verdict=verdict
        )
        tables.append(kept.assign(group=group, statistic="difference of scores", margin=np.nan))
    return pd.concat(tables, ignore_index=True)


def difference_from_default(rows: pd.DataFrame, default: str) -> pd.DataFrame:
    """Each run minus the default run, in the mean over all cells, paired by seed.

    A run that shares fewer than two seeds with the default is left out.

    Args:
        rows: one score for each run, cell and seed, as for `difference_from_others`.
        default: the run to compare with; each other run differs from it in one thing.

    Returns:
        A row for each run (``cell``): ``mean`` at the n shared seeds; ``value``, ``low`` and
        ``high``, the difference with its 95% t-interval; ``p`` and ``p_against`` for a difference
        above and below 0, after Holm's correction over these runs; ``verdict``, *better*, *worse*
        or *unclear*.
    """
    wide = rows.pivot(index=CELL, columns=["encoder", "seed"], values="value")  # noqa: PD010
    names = list(dict.fromkeys(rows["encoder"]))
    if default not in names:
        raise unknown("run of these rows", default, names)
    table: list[dict[str, Any]] = []
    for name in names:
        seeds = sorted(set(wide[name].columns) & set(wide[default].columns))
        if name == default or len(seeds) < 2:
            continue
        changed, usual = (_by_seed(wide[run], run, seeds).mean(0) for run in (name, default))
        found = _difference(changed - usual)
        row = {"cell": name, "mean": changed.mean(), "n": len(seeds), **found}
        table.append(row | {"p_against": _difference(usual - changed)["p"]})
    columns = ["cell", "mean", "n", "difference", "low", "high", "p", "p_against"]
    result = pd.DataFrame(table, columns=columns).rename(columns={"difference": "value"})
    for column in ("p", "p_against"):
        result[column] = holm(result[column]) if len(result) else result[column]
    verdict = np.select(
        [result["p"] < ALPHA, result["p_against"] < ALPHA], ["better", "worse"], "unclear"
    )
    return result.assign(verdict=verdict, statistic="difference of scores", margin=np.nan)
