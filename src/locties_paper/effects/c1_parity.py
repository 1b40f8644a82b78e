"""C1: do MELT and SALT match the strongest two-modality baseline?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from locties.modalities import EMBEDDED
from locties_paper.effects.evidence import (
    SEEDS,
    Array,
    Scores,
    Setting,
    Tables,
    Undecided,
    _paired,
    missing_seeds,
    read_tables,
    require_equal_pairs,
    tested_scores,
)
from locties_paper.effects.judging import (
    METHODS,
    Claim,
    Outcome,
    cell_verdicts,
    count_verdicts,
    join,
    mean_row,
    one_sided,
    two_modality_runs,
    verdict_of_all,
)
from locties_paper.effects.statistics import equivalence, equivalence_power, holm
from locties_paper.study import FIRST_PILOT_SEED, PILOT_POINTS

PILOT_SEEDS = 5
POWER = 0.8
MARGINS = (0.01, 0.02, 0.03, 0.05)  # in R² or accuracy; the pilot takes the first with enough power


class Pilot(NamedTuple):
    """The margin that a pilot fixes, and the numbers behind it."""

    setting: Setting
    margin: float
    seeds: int
    median_spread: float
    power: float
    largest_spread: float
    least_power: float
    joint_power: float


# What `fix_margin` found on the pilot seeds; `python -m locties_paper.effects.c1_parity` prints it.
# Add a margin before the test seeds are run, and never change it afterwards.
FIXED_MARGINS = {
    Setting("embedded", "study", "cpu"): 0.01,
    Setting("open", "study", "cpu"): 0.01,
}


def fix_margin(runs: pd.DataFrame, modalities: Sequence[str] = EMBEDDED) -> Pilot:
    """The margin of equivalence, fixed from the pilot seeds of one tier.

    It is the smallest of `MARGINS` that gives ten seeds a power of at least 0.8 in the median cell
    when the true difference is 0. `least_power` is the power of the worst cell. `joint_power` is
    the power in all cells at once, if cells were independent. Raises `Undecided` if no margin has
    enough power.
    """
    among = two_modality_runs(modalities)
    pilot = pilot_scores(runs, among)
    spread = _lead(pilot, strongest_runs(pilot, among)).std(axis=-1, ddof=1).ravel()
    median, largest = float(np.median(spread)), float(spread.max())
    for margin in MARGINS:
        power, *cells = equivalence_power([median, *spread], SEEDS, margin)
        if power >= POWER:
            return Pilot(
                pilot.setting,
                margin,
                len(pilot.seeds),
                median,
                float(power),
                largest,
                float(min(cells)),
                float(np.prod(cells)),
            )
    raise Undecided(
        f"with {SEEDS} seeds no margin up to {MARGINS[-1]} has power {POWER} at the median spread "
        f"of {median:.3f}: more seeds are needed"
    )


def matches(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """MELT and SALT on five modalities, each against the strongest two-modality run.

    - Statistic: score minus the baseline's score, paired by seed, in each cell (method × task ×
      split × probe). All runs see the same number of pairs.
    - Margin: fixed from a pilot (`fix_margin`), once for each tier, profile and kind of device.
    - Supported: two one-sided t-tests show that every cell is within the margin. All must pass (an
      intersection-union test), so no correction is needed.
    - Refuted: some cell is beyond the margin, on either side, after Holm's correction over all
      cells and both sides.
    - `p_better` tests whether a method beats the baseline, Holm-corrected over all cells. A method
      that is not equivalent may be better.
    - The strongest baseline of each task has the highest mean over splits and probes on the pilot
      seeds, which no test reads. If the pilot also has its own points (``points_seed`` 1), the
      choice saw no score of the test. The two sets of points still lie near each other, so a little
      optimism remains. If the pilot was scored at the points of the test, the note says so; this
      favours the baseline a little.
    """
    among = two_modality_runs(tables.modalities)
    tested = tested_scores(tables.runs, [*METHODS, *among])
    require_equal_pairs(tables.histories, dict.fromkeys([*METHODS, *among], 1))
    n, margin = len(tested.seeds), margins.get(tested.setting, np.nan)
    missing, notes = missing_seeds(n), [tested.note]
    if np.isnan(margin):
        missing.append("no margin is fixed yet: run the pilot")
    try:
        pilot = pilot_scores(tables.runs, among)
        if pilot.setting != tested.setting:
            raise Undecided(f"made at {'/'.join(pilot.setting)}, not {'/'.join(tested.setting)}")
        strongest = strongest_runs(pilot, among)
        notes.append(pilot.note)
    except Undecided as why:
        missing.append(
            f"the pilot seeds that choose the baseline: {why}; the rows show clip-imagery"
        )
        strongest = dict.fromkeys((task for task, _, _ in tested.cells), "clip-imagery")
    differences = _lead(tested, strongest)
    within, worse, better = _parity(differences, margin)
    superior = holm(one_sided(differences, 0.0, "greater"))
    judged = cell_verdicts(missing, equivalent=within, worse=worse, better=better)
    rows = [
        mean_row(
            f"{METHODS[i]} minus the strongest baseline",
            f"{' '.join(tested.cells[j])} ({strongest[tested.cells[j][0]]})",
            "difference of scores",
            differences[i, j],
            verdict=judged[i, j],
            margin=margin,
            p=within[i, j],
            p_against=min(worse[i, j], better[i, j]),
            p_better=superior[i, j],
        )
        for i, j in np.ndindex(judged.shape)
    ]
    notes.append(count_verdicts(judged))
    return Outcome(missing, *verdict_of_all(rows), rows, tested.setting, join(notes))


def leak_free_parity(tables: Tables, leaks: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Compare MELT with two-modality runs when neither saw a modality that leaks.

    For each task, MELT on the four modalities that share no source with it (the run
    ``without-<modality>``) is compared with the strongest two-modality run on one of these four,
    chosen on the pilot as in C1. This does not change C1's verdict.

    Args:
        tables: of one tier.
        leaks: by task, the modalities that leak into it; one of them is in the study.

    Returns:
        A row for each cell. ``group`` is the run and ``cell`` names the baseline. ``verdict`` is
        equivalent, worse, better (both beyond C1's margin) or unclear, corrected over these cells.
        ``mean`` is the run's score; ``five`` is the score of MELT on all five modalities.
    """
    left_out = {}
    for task, leaking in leaks.items():
        (modality,) = set(leaking) & set(tables.modalities)
        left_out[task] = f"without-{modality}"
    among = two_modality_runs(tables.modalities)
    runs = list(dict.fromkeys(left_out.values()))
    tested = tested_scores(tables.runs, ["melt-all", *runs, *among])
    margin = FIXED_MARGINS.get(tested.setting)
    if margin is None:
        raise Undecided("no margin is fixed yet: run the pilot")
    pilot = pilot_scores(tables.runs, among)
    strongest = {}
    for task, run in left_out.items():
        kept = [name for name in among if name.split("-")[1] != run.split("-")[1]]
        strongest[task] = strongest_runs(pilot, kept)[task]
    cells = [(i, cell) for i, cell in enumerate(tested.cells) if cell[0] in left_out]
    differences = np.stack(
        [tested.value[left_out[c[0]]][i] - tested.value[strongest[c[0]]][i] for i, c in cells]
    )
    within, worse, better = _parity(differences, margin)
    judged = cell_verdicts([], equivalent=within, worse=worse, better=better)
    return pd.DataFrame(
        mean_row(
            left_out[cell[0]],
            f"{' '.join(cell)} ({strongest[cell[0]]})",
            "difference of scores",
            differences[k],
            verdict=judged[k],
            margin=margin,
            p=within[k],
            p_against=min(worse[k], better[k]),
            mean=tested.value[left_out[cell[0]]][i].mean(),
            five=tested.value["melt-all"][i].mean(),
        )
        for k, (i, cell) in enumerate(cells)
    )


def pilot_scores(runs: pd.DataFrame, baselines: Sequence[str]) -> Scores:
    """`Scores` of the pilot seeds, at the pilot's own points if it has any."""
    rows = runs[runs["seed"] >= FIRST_PILOT_SEED]
    anew = rows[rows["points_seed"] == PILOT_POINTS]
    found = _paired(anew if len(anew) else rows, [*METHODS, *baselines])
    if len(found.seeds) < PILOT_SEEDS:
        raise Undecided(f"{len(found.seeds)} seeds, and the pilot needs {PILOT_SEEDS}")
    note = "" if len(anew) else "the pilot was scored at the points of the test"
    return found._replace(note=note)


def strongest_runs(pilot: Scores, among: Sequence[str]) -> dict[str, str]:
    """By task, the run with the highest mean over splits, probes and pilot seeds."""
    tasks = np.array([task for task, _, _ in pilot.cells])
    return {
        task: max(among, key=lambda run: pilot.value[run][tasks == task].mean())
        for task in dict.fromkeys(tasks.tolist())
    }


def _lead(scores: Scores, strongest: Mapping[str, str]) -> Array:
    """Each method minus the strongest run of the task: `(methods, cells, seeds)`."""
    base = np.stack([scores.value[strongest[cell[0]]][i] for i, cell in enumerate(scores.cells)])
    return np.stack([scores.value[method] - base for method in METHODS])


def _parity(differences: Array, margin: float) -> tuple[Array, Array, Array]:
    """p-values for being within, below and above the margin; the last two corrected together."""
    within = np.nan_to_num(equivalence(differences, margin), nan=1.0)
    sides = [one_sided(differences, -margin, "less"), one_sided(differences, margin, "greater")]
    worse, better = holm(np.stack(sides))
    return within, worse, better


CLAIM = Claim(
    "C1",
    "Both MELT and SALT match the strongest two-modality baseline.",
    needs=lambda modalities: (*METHODS, *two_modality_runs(modalities)),
    test=matches,
)


if __name__ == "__main__":
    published = read_tables()
    for tier, rows in published.runs.groupby("tier"):
        try:
            print(fix_margin(rows, published.modalities))
        except Undecided as why:
            print(f"{tier}: {why}")
