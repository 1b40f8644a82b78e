"""C1: do MELT and SALT match the strongest two-modality baseline?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from locties_paper.effects.evidence import (
    FIRST_PILOT_SEED,
    PILOT_POINTS,
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
    with_defaults,
)
from locties_paper.effects.judging import (
    METHODS,
    TWO_MODALITY_RUNS,
    Claim,
    Outcome,
    cell_verdicts,
    count_verdicts,
    join,
    mean_row,
    one_sided,
    verdict_of_all,
)
from locties_paper.effects.statistics import equivalence, equivalence_power, holm

PILOT_SEEDS = 5
POWER = 0.8
MARGINS = (0.01, 0.02, 0.03, 0.05)  # in R² or accuracy; a pilot takes the smallest with power


class Pilot(NamedTuple):
    """The margin that a pilot fixes, and the numbers it rests on."""

    setting: Setting
    margin: float
    seeds: int
    median_spread: float
    power: float
    largest_spread: float
    least_power: float
    joint_power: float


# What the pilots fixed. `python -m locties_paper.effects.c1_parity` prints a new one: add it before
# the test seeds are run, and never change it after.
PILOTS: tuple[Pilot, ...] = (
    Pilot(
        Setting("embedded", "study", "cpu"),
        margin=0.01,
        seeds=5,
        median_spread=0.00835507822287497,
        power=0.9336380551958435,
        largest_spread=0.062076262324850424,
        least_power=0.0,
        joint_power=0.0,
    ),
    Pilot(
        Setting("open", "study", "cpu"),
        margin=0.01,
        seeds=5,
        median_spread=0.0076282815299861615,
        power=0.969574819452445,
        largest_spread=0.07514614226197164,
        least_power=0.0,
        joint_power=0.0,
    ),
)


def fix_margin(runs: pd.DataFrame) -> Pilot:
    """The margin of equivalence that the pilot seeds fix.

    The smallest of `MARGINS` at which ten seeds have a power of at least .8 in the median cell, if
    the true difference is 0. `least_power` is that of the worst cell, and `joint_power` that of all
    cells together if they were independent.

    Args:
        runs: tidy rows of one tier, with seeds from 100 on.

    Raises:
        Undecided: too few pilot rows, a mix of settings, or a spread that no margin covers.
    """
    pilot = pilot_scores(with_defaults(runs))
    spread = _lead(pilot, strongest_runs(pilot)).std(axis=-1, ddof=1).ravel()
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
    """Equivalence of MELT and of SALT, on all five modalities, to the strongest baseline.

    - Statistic: score minus the baseline's, paired by seed, in each cell (method × task × split ×
      probe); all runs see the same number of pairs.
    - Margin: fixed after a pilot of the seeds' spread (`fix_margin`), once for each tier, profile
      and kind of device.
    - Supported: two one-sided t-tests show every cell within the margin. All must pass (an
      intersection-union test), so nothing is corrected.
    - Refuted: some cell lies beyond the margin, on either side, after Holm's correction over all
      cells and both sides.
    - Beside it, `p_better` tests superiority over the baseline, Holm-corrected over all cells: what
      is not equivalent may be better.
    - The strongest baseline is chosen for each task on the pilot seeds, which no test reads, by the
      mean over splits and probes. Where the pilot also has points of its own
      (``points_seed`` 1) the choice has seen neither the seeds nor the points of the test; what
      optimism remains comes from the pilot's points lying near them. Where it has not, the note
      says so: a baseline that does well at just these points is then preferred, which lifts the
      baseline a little.
    """
    tested = tested_scores(tables.runs, [*METHODS, *TWO_MODALITY_RUNS])
    require_equal_pairs(tables.histories, dict.fromkeys([*METHODS, *TWO_MODALITY_RUNS], 1))
    n, margin = len(tested.seeds), margins.get(tested.setting, np.nan)
    missing, notes = missing_seeds(n), [tested.note]
    if np.isnan(margin):
        missing.append("no margin is fixed yet: run the pilot")
    try:
        pilot = pilot_scores(tables.runs)
        if pilot.setting != tested.setting:
            raise Undecided(f"made at {'/'.join(pilot.setting)}, not {'/'.join(tested.setting)}")
        strongest = strongest_runs(pilot)
        notes.append(pilot.note)
    except Undecided as why:
        missing.append(
            f"the pilot seeds that choose the baseline: {why}; the rows show clip-imagery"
        )
        strongest = dict.fromkeys((task for task, _, _ in tested.cells), "clip-imagery")
    differences = _lead(tested, strongest)
    within, worse, better = _parity(differences, margin)
    superior = holm(one_sided(differences, 0.0, "greater"))
    said = cell_verdicts(missing, equivalent=within, worse=worse, better=better)
    rows = [
        mean_row(
            f"{METHODS[i]} minus the strongest baseline",
            f"{' '.join(tested.cells[j])} ({strongest[tested.cells[j][0]]})",
            "difference of scores",
            differences[i, j],
            verdict=said[i, j],
            margin=margin,
            p=within[i, j],
            p_against=min(worse[i, j], better[i, j]),
            p_better=superior[i, j],
        )
        for i, j in np.ndindex(said.shape)
    ]
    notes.append(count_verdicts(said))
    return Outcome(missing, *verdict_of_all(rows), rows, tested.setting, join(notes))


def leak_free_parity(tables: Tables, leaks: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """C1's comparison for MELT where neither side saw what shares its source with the task.

    MELT on the four other modalities (the runs ``without-<modality>``), less the strongest of the
    other two-modality runs, chosen on the pilot as in C1. It has no part in the verdict.

    Args:
        tables: of one tier.
        leaks: by task, the one modality that shares its source with the labels.

    Returns:
        A row for each cell: group is the run, cell names the baseline; verdict equivalent, worse or
        better beyond C1's margin, or unclear, corrected over these cells. Two columns more: mean,
        the run's score, and five, that of MELT on all five.

    Raises:
        Undecided: where rows of these runs are missing, or no margin is fixed.
    """
    left_out = {task: f"without-{modality}" for task, (modality,) in leaks.items()}
    runs = list(dict.fromkeys(left_out.values()))
    tested = tested_scores(with_defaults(tables.runs), ["melt-all", *runs, *TWO_MODALITY_RUNS])
    margin = {pilot.setting: pilot.margin for pilot in PILOTS}.get(tested.setting)
    if margin is None:
        raise Undecided("no margin is fixed yet: run the pilot")
    pilot = pilot_scores(tables.runs)
    strongest = {}
    for task, run in left_out.items():
        kept = [name for name in TWO_MODALITY_RUNS if name.split("-")[1] != run.split("-")[1]]
        strongest[task] = strongest_runs(pilot, kept)[task]
    cells = [(i, cell) for i, cell in enumerate(tested.cells) if cell[0] in left_out]
    differences = np.stack(
        [tested.value[left_out[c[0]]][i] - tested.value[strongest[c[0]]][i] for i, c in cells]
    )
    within, worse, better = _parity(differences, margin)
    said = cell_verdicts([], equivalent=within, worse=worse, better=better)
    return pd.DataFrame(
        mean_row(
            left_out[cell[0]],
            f"{' '.join(cell)} ({strongest[cell[0]]})",
            "difference of scores",
            differences[k],
            verdict=said[k],
            margin=margin,
            p=within[k],
            p_against=min(worse[k], better[k]),
            mean=tested.value[left_out[cell[0]]][i].mean(),
            five=tested.value["melt-all"][i].mean(),
        )
        for k, (i, cell) in enumerate(cells)
    )


def pilot_scores(runs: pd.DataFrame) -> Scores:
    """`Scores` of the pilot's seeds, at points of their own where there are any."""
    rows = runs[runs["seed"] >= FIRST_PILOT_SEED]
    anew = rows[rows["points_seed"] == PILOT_POINTS]
    found = _paired(anew if len(anew) else rows, [*METHODS, *TWO_MODALITY_RUNS])
    if len(found.seeds) < PILOT_SEEDS:
        raise Undecided(f"{len(found.seeds)} seeds, and the pilot needs {PILOT_SEEDS}")
    note = "" if len(anew) else "the pilot was scored at the points of the test"
    return found._replace(note=note)


def strongest_runs(pilot: Scores, among: Sequence[str] = TWO_MODALITY_RUNS) -> dict[str, str]:
    """By task, the run with the highest mean over splits, probes and pilot seeds."""
    tasks = np.array([task for task, _, _ in pilot.cells])
    return {
        task: max(among, key=lambda run: pilot.value[run][tasks == task].mean())
        for task in dict.fromkeys(tasks.tolist())
    }


def _lead(scores: Scores, strongest: Mapping[str, str]) -> Array:
    """`(methods, cells, seeds)`: each method minus the task's strongest run."""
    base = np.stack([scores.value[strongest[cell[0]]][i] for i, cell in enumerate(scores.cells)])
    return np.stack([scores.value[method] - base for method in METHODS])


def _parity(differences: Array, margin: float) -> tuple[Array, Array, Array]:
    """p-values of within the margin, below it and above it; the latter two corrected together."""
    within = np.nan_to_num(equivalence(differences, margin), nan=1.0)
    sides = [one_sided(differences, -margin, "less"), one_sided(differences, margin, "greater")]
    worse, better = holm(np.stack(sides))
    return within, worse, better


CLAIM = Claim(
    "C1",
    "Both MELT and SALT match the strongest two-modality baseline.",
    needs=(*METHODS, *TWO_MODALITY_RUNS),
    test=matches,
)


if __name__ == "__main__":
    for tier, rows in with_defaults(read_tables().runs).groupby("tier"):
        try:
            print(fix_margin(rows))
        except Undecided as why:
            print(f"{tier}: {why}")
