"""C5: does MELT train more stably than SALT?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from locties.evaluation.statistics import Interval, mean_interval
from locties_paper.effects.evidence import (
    Array,
    Setting,
    Tables,
    Undecided,
    missing_seeds,
    require_equal_pairs,
    rows_of_runs,
    setting_of,
)
from locties_paper.effects.judging import (
    METHODS,
    Claim,
    Outcome,
    cell_verdicts,
    mean_row,
    one_sided,
    result_row,
    verdict_of_all,
)
from locties_paper.effects.statistics import ALPHA, holm
from locties_paper.study import FIRST_PILOT_SEED

SETTLED = 0.2  # of a run's pairs, after which its changes are counted


def more_stable(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """How much the validation losses of MELT and SALT jump from epoch to epoch.

    - Rows: each modality's validation loss on one fixed batch at one temperature, at the same
      numbers of pairs seen. Both methods train on all five modalities.
    - Statistic: the standard deviation of the changes from epoch to epoch after the first fifth of
      the run, SALT's divided by MELT's, as a logarithm, paired by seed, for each modality.
    - Supported: one-sided t-tests show that every modality's ratio is above 1 (intersection-union,
      so no correction is needed).
    - Refuted: some modality's ratio is below 1, after Holm's correction over modalities.
    - Shown beside it, without a part in the verdict: forgetting. This is the fall of a modality's
      recall at 10 from the end of its turn in SALT to the end of its pause, minus MELT's fall over
      the same epochs.
    """
    histories = tables.histories[tables.histories["seed"] < FIRST_PILOT_SEED]
    rows_of = rows_of_runs(histories, METHODS, "histories")
    where = tables.runs[["encoder", "seed", "tier", "profile", "device", "data"]].drop_duplicates()
    bare = rows_of.drop(columns=where.columns[2:], errors="ignore")
    rows_of = bare.merge(where, on=["encoder", "seed"])  # with the provenance of the scores
    rows_of = rows_of_runs(rows_of, METHODS, "provenance of histories")
    setting = setting_of(rows_of)
    require_equal_pairs(histories, dict.fromkeys(METHODS, 1))
    modalities = list(dict.fromkeys(rows_of["modality"]))
    changes: dict[str, list[float]] = {name: [] for name in modalities}
    falls: dict[str, list[float]] = {name: [] for name in modalities}
    seeds = []
    for seed, of_seed in rows_of.groupby("seed"):
        melt, salt = (
            of_seed[of_seed["encoder"] == run].pivot(index="pairs", columns="modality")
            for run in METHODS
        )
        if not melt.index.equals(salt.index) or len(melt) < 3:
            continue
        seeds.append(int(seed))
        settled = melt.index > SETTLED * melt.index.max()
        for name in modalities:
            spread = [
                np.diff(run["validation_loss", name].to_numpy()[settled]).std(ddof=1)
                for run in (melt, salt)
            ]
            changes[name].append(float(np.log(spread[1] / spread[0])))
            active = salt["active", name].to_numpy(dtype=bool)
            recall = [run["recall_at_10", name].to_numpy() for run in (melt, salt)]
            falls[name].append(_fall(recall[1], active) - _fall(recall[0], active))
    if len(seeds) < 2:
        raise Undecided(f"{len(seeds)} seeds in common")
    missing = missing_seeds(len(seeds))
    ratios = np.array([changes[name] for name in modalities])
    above = one_sided(ratios, 0.0, "greater")
    below = holm(one_sided(ratios, 0.0, "less"))
    judged = cell_verdicts(missing, steadier=above, jumpier=below)
    rows = []
    for i, name in enumerate(modalities):
        ends = np.exp(mean_interval(ratios[i], 1 - 2 * ALPHA)).tolist()
        more = {"verdict": judged[i], "p": above[i], "p_against": below[i]}
        statistic = "ratio of standard deviations"
        rows.append(
            result_row("SALT over MELT", name, statistic, Interval(*ends), len(seeds), **more)
        )
    verdict, decisive = verdict_of_all(rows)
    rows += [
        mean_row("SALT minus MELT", name, "forgetting (fall of recall at 10)", np.array(fall))
        for name, fall in falls.items()
        if np.isfinite(fall).all()
    ]
    return Outcome(missing, verdict, decisive, rows, setting, "")


def _fall(recall: Array, active: NDArray[np.bool_]) -> float:
    """Mean fall of recall from the last epoch of each turn to the end of the pause after it."""
    ends = np.flatnonzero(active[:-1] & ~active[1:])
    starts = np.append(np.flatnonzero(active[1:] & ~active[:-1]), len(active) - 1)
    pauses = [(end, starts[starts > end][0]) for end in ends]
    return float(np.mean([recall[end] - recall[last] for end, last in pauses] or [np.nan]))


CLAIM = Claim(
    "C5",
    "MELT trains more stably than SALT.",
    needs=lambda _: METHODS,
    test=more_stable,
    of_tasks=False,
)
