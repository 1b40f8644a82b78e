"""C3: is the location encoder the main limit?"""

from collections.abc import Mapping
from itertools import product

import numpy as np

from locties_paper.effects.evidence import (
    FEWER_SEEDS,
    Setting,
    Tables,
    missing_seeds,
    require_equal_pairs,
    tested_scores,
)
from locties_paper.effects.judging import (
    Claim,
    Outcome,
    cell_verdicts,
    join,
    mean_row,
    one_sided,
    verdict_of_all,
)
from locties_paper.effects.statistics import holm, variance_shares

FACTORS = {
    "encoder": ("harmonics", "fourier", "sphere"),
    "modalities": ("one", "three", "five"),
    "objective": ("nt_xent", "siglip", "vicreg"),
}


def crossed_run(encoder: str, modalities: str, objective: str) -> str:
    """The run at one combination of levels of `FACTORS`. Three of them serve other claims too."""
    if (encoder, objective) == ("harmonics", "nt_xent"):
        return {"one": "one-imagery", "three": "melt-three", "five": "melt-all"}[modalities]
    return f"cross-{encoder}-{modalities}-{objective}"


NEEDS = tuple(crossed_run(*levels) for levels in product(*FACTORS.values()))


def main_limit(tables: Tables, margins: Mapping[Setting, float]) -> Outcome:
    """Share of the variance that encoder, modalities and objective each explain.

    - Design: three location encoders × three modality sets × three objectives, trained by MELT at
      equal pairs. Every combination is run with every seed. Each factor has three levels, so none
      has more room than another, and noise adds the same to each share.
    - Statistic: omega squared of each main effect within a seed, in each cell (task × split ×
      probe), averaged over cells. The encoder's share minus another factor's share is paired by
      seed.
    - Supported: one-sided t-tests show that both differences are above 0 (intersection-union, so no
      correction is needed).
    - Refuted: some difference is below 0, after Holm's correction over the two.
    - The result holds for these levels only: a factor explains more if its levels differ more. The
      levels are choices that a practitioner would consider; they were fixed before any run.
    """
    needed = NEEDS
    tested = tested_scores(tables.runs, needed)
    require_equal_pairs(tables.histories, dict.fromkeys(needed, 1))
    n = len(tested.seeds)
    levels = [len(names) for names in FACTORS.values()]
    values = np.stack([tested.value[run] for run in needed])  # (combinations, cells, seeds)
    shares = variance_shares(values.transpose(2, 1, 0).reshape(n, len(tested.cells), *levels))
    means = shares.mean(1)  # (seeds, factors)
    differences = (means[:, :1] - means[:, 1:]).T
    above = one_sided(differences, 0.0, "greater")
    below = holm(one_sided(differences, 0.0, "less"))
    missing = missing_seeds(n, FEWER_SEEDS)
    judged = cell_verdicts(missing, more=above, less=below)
    encoder, *others = FACTORS
    rows = [
        mean_row(
            f"{encoder} minus {other}",
            "mean",
            "difference of shares",
            differences[i],
            verdict=judged[i],
            p=above[i],
            p_against=below[i],
        )
        for i, other in enumerate(others)
    ]
    verdict, decisive = verdict_of_all(rows)
    for k, factor in enumerate(FACTORS):
        parts = zip(map(" ".join, tested.cells), shares[..., k].T, strict=True)
        rows += [
            mean_row(factor, cell, "share of variance", share)
            for cell, share in [("mean", means[:, k]), *parts]
        ]
    named = ", ".join(f"{row['group']} {row['value']:.2f}" for row in rows if row["cell"] == "mean")
    note = join([f"means: {named}", tested.note if missing else ""])
    return Outcome(missing, verdict, decisive, rows, tested.setting, note)


CLAIM = Claim(
    "C3",
    "The location encoder is the main limit.",
    needs=lambda _: NEEDS,
    test=main_limit,
    seeds=FEWER_SEEDS,
)
