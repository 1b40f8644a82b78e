"""C4: does the contrastive objective reach its peak early?"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd

from locties.training.loop import WARM_UP
from locties_paper.effects.evidence import (
    Array,
    Setting,
    Tables,
    Undecided,
    missing_seeds,
    rows_of_runs,
    tested_scores,
)
from locties_paper.effects.judging import (
    Claim,
    Outcome,
    cell_verdicts,
    count_verdicts,
    join,
    mean_row,
    one_sided,
    verdict_of_all,
)
from locties_paper.effects.statistics import holm

EARLY = 0.25  # of a run's pairs
ALONG = tuple(
    f"along-{subset}-{volume}"
    for subset, volume in product(("one", "three", "five"), ("few", "fixed", "fresh"))
)


def peaks_early(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """The gain in score after the first quarter of a run, at a constant learning rate.

    - Runs: MELT on one, three and five modalities, each with a quarter of the samples, with all of
      them, and with fresh locations at every step. The histories must show a constant learning rate
      after the warm-up, so that no schedule can fake a peak.
    - Statistic: in each run and cell (task × split × probe), the score at the best checkpoint after
      a quarter of the pairs minus the score at the best one before. Half of the seeds choose the
      two checkpoints by their mean; the other half is tested, so the choice flatters neither.
    - Margin: that of C1's pilot.
    - Supported: one-sided t-tests show that every gain is below the margin (intersection-union, so
      no correction is needed). A score that stays flat and one that falls both count. A cell has
      *fallen* if the last checkpoint is shown to be below the early one by more than the margin.
    - Refuted: some gain is above the margin, after Holm's correction over runs and cells.
    """
    along = rows_of_runs(tables.along, ALONG, "scores along training")
    _constant_rate(rows_of_runs(tables.histories, ALONG, "histories"))
    steps = {
        run: sorted(set(found["pairs"])) for run, found in along.groupby("encoder", sort=False)
    }
    found = []
    flat = along.assign(encoder=along["encoder"] + "@" + along["pairs"].astype(str))
    flat_names = [f"{run}@{pairs}" for run in ALONG for pairs in steps[run]]
    tested = tested_scores(flat, flat_names)
    margin = margins.get(tested.setting, np.nan)
    missing = missing_seeds(len(tested.seeds))
    if np.isnan(margin):
        missing.append("no margin is fixed yet: run the pilot")
    for run in ALONG:
        values = np.stack([tested.value[f"{run}@{pairs}"] for pairs in steps[run]])
        early = sum(pairs <= EARLY * steps[run][-1] for pairs in steps[run])
        if not 0 < early < len(steps[run]):
            raise Undecided(f"{run} has no checkpoint within the first {EARLY:.0%} of its pairs")
        found.append(_late_gain(values, early))
    gains, finals = (np.stack(part) for part in zip(*found, strict=True))
    if gains.shape[-1] < 2:
        raise Undecided(f"{len(tested.seeds)} seeds")
    small = one_sided(gains, margin, "less")
    large = holm(one_sided(gains, margin, "greater"))
    fallen = holm(one_sided(finals, -margin, "less"))
    judged = cell_verdicts(missing, rises=large, fell=np.maximum(small, fallen), peaked=small)
    rows = [
        mean_row(
            ALONG[i],
            " ".join(tested.cells[j]),
            "late gain of score",
            gains[i, j],
            verdict=judged[i, j],
            margin=margin,
            p=small[i, j],
            p_against=large[i, j],
        )
        for i, j in np.ndindex(judged.shape)
    ]
    note = join([tested.note, count_verdicts(judged)])
    return Outcome(missing, *verdict_of_all(rows), rows, tested.setting, note)


def _late_gain(values: Array, early: int) -> tuple[Array, Array]:
    """Gain after the first `early` checkpoints, and at the last, over the best early one.

    Every second seed chooses the best early and the best late checkpoint of each cell; the other
    seeds are scored there. If the same seeds did both, the best of many checkpoints would always
    seem to beat the best of few.

    Args:
        values: `(checkpoints, cells, seeds)`.
        early: number of early checkpoints.

    Returns:
        Two arrays `(cells, seeds // 2)`.
    """
    means, judged = values[..., ::2].mean(-1), values[..., 1::2]
    cell = np.arange(values.shape[1])
    before = judged[means[:early].argmax(0), cell]
    after = judged[early + means[early:].argmax(0), cell]
    return after - before, judged[-1] - before


def _constant_rate(histories: pd.DataFrame) -> None:
    for (run, _), rows in histories.groupby(["encoder", "seed"]):
        settled = rows[rows["pairs"] > 1.1 * WARM_UP * rows["pairs"].max()]["learning_rate"]
        if settled.max() > 1.001 * settled.min():
            raise Undecided(f"the learning rate of {run} is not constant, which can fake a peak")


CLAIM = Claim(
    "C4",
    "The contrastive objective reaches its peak early, whatever the diversity or the volume.",
    needs=lambda _: ALONG,
    test=peaks_early,
)
