"""C2: do more modalities improve downstream scores consistently?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from locties_paper.effects.evidence import (
    FEWER_SEEDS,
    Setting,
    Tables,
    missing_seeds,
    require_equal_pairs,
    tested_scores,
)
from locties_paper.effects.judging import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Claim,
    Outcome,
    cell_verdicts,
    count_verdicts,
    join,
    mean_row,
    one_sided,
)
from locties_paper.effects.statistics import ALPHA, holm


def budgets(modalities: Sequence[str]) -> dict[str, dict[int, tuple[str, ...]]]:
    """The runs on one modality, on sets of three and on all five, by budget and size.

    One modality: MELT's direction of the loss, on the samples of a two-modality run. Each modality
    is in three of the sets of three, so these and the runs on one differ only in their number.
    """
    a, b, c, d, e = modalities
    ones = tuple(f"one-{modality}" for modality in modalities)
    sets = (f"{a}-{b}-{c}", f"{b}-{c}-{d}", f"{c}-{d}-{e}", f"{a}-{d}-{e}")
    threes = (*(f"three-{held}" for held in sets), "melt-three")  # the last holds a, b and e
    return {
        "equal pairs": {1: ones, 3: threes, 5: ("melt-all",)},
        "equal pairs a modality": {
            1: tuple(f"{run}-each" for run in ones),
            3: tuple(f"{run}-each" for run in threes),
            5: ("melt-all",),
        },
    }


def needs(modalities: Sequence[str]) -> tuple[str, ...]:
    """The names of all these runs, each once."""
    sizes = budgets(modalities).values()
    return tuple(dict.fromkeys(run for size in sizes for runs in size.values() for run in runs))


def more_modalities(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """Five modalities against three, and three against one, at two budgets.

    - Runs: MELT on each modality alone, on five sets of three in which each modality occurs three
      times, and on all five. The score of a size is the mean over its sets, so that sizes differ in
      number and not in which modalities they hold. All use MELT's direction of the loss.
    - Budgets: equal pairs in all, and equal pairs for each modality (one modality alone gets a
      fifth of the pairs, three get three fifths). The training histories are checked for this.
    - Statistic: five minus three, and three minus one, paired by seed, in each cell (task × split ×
      probe). More modalities *help consistently* if both steps help in every cell.
    - Refuted: at both budgets, one-sided t-tests show that every difference is above 0
      (intersection-union, so no correction is needed).
    - Supported: at both budgets, some difference is below 0, after Holm's correction over the cells
      and steps of the budget.
    - Undecided otherwise.
    - A single cell is *better* by its uncorrected test and *worse* by its corrected one.
    """
    tested = tested_scores(tables.runs, needs(tables.modalities))
    for budget, sizes in budgets(tables.modalities).items():
        a_part = budget != "equal pairs"
        require_equal_pairs(
            tables.histories,
            {run: size if a_part else 1 for size, runs in sizes.items() for run in runs},
        )
    missing, rows, verdicts = missing_seeds(len(tested.seeds), FEWER_SEEDS), [], {}
    for budget, sizes in budgets(tables.modalities).items():
        one, three, five = (
            np.mean([tested.value[run] for run in runs], axis=0) for runs in sizes.values()
        )
        steps = np.stack([five - three, three - one])
        helps = one_sided(steps, 0.0, "greater")
        hurts = holm(one_sided(steps, 0.0, "less"))
        if (hurts < ALPHA).any():
            verdicts[budget] = SUPPORTED
        else:
            verdicts[budget] = REFUTED if (helps < ALPHA).all() else UNDECIDED
        judged = cell_verdicts(missing, worse=hurts, better=helps)
        rows += [
            mean_row(
                f"{budget}: {('five minus three', 'three minus one')[i]}",
                " ".join(tested.cells[j]),
                "difference of scores",
                steps[i, j],
                verdict=judged[i, j],
                p=hurts[i, j],
                p_against=helps[i, j],
            )
            for i, j in np.ndindex(judged.shape)
        ]
    agreed = set(verdicts.values())
    verdict = agreed.pop() if len(agreed) == 1 else UNDECIDED
    notes = (
        [tested.note] if missing else [f"at {budget} {found}" for budget, found in verdicts.items()]
    )
    notes += [count_verdicts(np.array([row["verdict"] for row in rows]))]
    decisive = max(rows, key=lambda row: row["p_against"])  # the cell where it helps least
    return Outcome(missing, verdict, decisive, rows, tested.setting, join(notes))


def leak_free(tables: Tables, leaks: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """C2's step from one modality to three, without the sets that hold a leaking modality.

    Each set of three is compared with the mean of its three modalities alone. If no set leaks, this
    is C2's own step. It does not change the verdict. The p-values are not corrected.

    Args:
        tables: of one tier.
        leaks: by task, the modalities that share their source with its labels.

    Returns:
        Rows like those of `verdicts`, with a group for each budget.
    """
    tested = tested_scores(tables.runs, needs(tables.modalities))
    rows = []
    for budget, sizes in budgets(tables.modalities).items():
        steps = {}
        for run in sizes[3]:
            held = _held(run, tables.modalities)
            alone = [one for one in sizes[1] if one.split("-")[1] in held]
            alone_mean = np.mean([tested.value[one] for one in alone], axis=0)
            steps[held] = tested.value[run] - alone_mean  # (cells, seeds)
        for j, cell in enumerate(tested.cells):
            kept = [
                step[j] for held, step in steps.items() if not held & set(leaks.get(cell[0], ()))
            ]
            step = np.mean(kept, axis=0)
            up, down = (one_sided(step, 0.0, side) for side in ("greater", "less"))
            rows.append(
                mean_row(
                    f"{budget}: three minus one",
                    " ".join(cell),
                    "difference of scores",
                    step,
                    verdict=str(cell_verdicts([], worse=down, better=up)),
                    p=down,
                    p_against=up,
                )
            )
    return pd.DataFrame(rows)


def _held(run: str, modalities: Sequence[str]) -> frozenset[str]:
    """The modalities of a run on three."""
    if run.startswith("melt-three"):
        return frozenset(modalities[i] for i in (0, 1, 4))
    return frozenset(run.split("-")[1:4])


CLAIM = Claim(
    "C2",
    "More modalities do not consistently improve downstream scores.",
    needs=needs,
    test=more_modalities,
    seeds=FEWER_SEEDS,
)
