"""C2: what is a larger number of modalities worth?

One stands for the mean over all five single modalities, three for the mean over five sets of three
in which each modality occurs three times. Each run is at its own best budget.
"""

import pandas as pd

from locties_paper.design import FIVE, TRIPLES
from locties_paper.effects.effect import Contrast
from locties_paper.sweeps import A_MODALITY, SWEEPS


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders or groups of them."""
    best = chosen.set_index("contender")["value"]
    made: list[Contrast] = []
    for text, five, ones in (("MELT", "melt", "clip"), ("regression", "regression", "regression")):
        one = tuple(f"{ones}-{name}" for name in FIVE)
        three = tuple(f"{five}-{'-'.join(names)}" for names in TRIPLES)
        made += [
            (f"{text}: three minus one", three, one),
            (f"{text}: five minus three", five, three),
            (f"{text}: five minus one", five, one),
            (f"{text}: five minus the best three", five, str(best[list(three)].idxmax())),
            (f"{text}: five minus the best one", five, str(best[list(one)].idxmax())),
        ]
    return made


def count_contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """As above, of MELT at budgets that are equal in all, or equal for each modality."""
    contenders = SWEEPS["counts"].contenders.values()
    made: list[Contrast] = []
    for text, budget in (
        ("equal pairs in all", lambda n: 5 * A_MODALITY),
        ("equal pairs of each", lambda n: n * A_MODALITY),
    ):
        one, three, five = (
            tuple(f"{c.name}@{budget(n):g}" for c in contenders if len(c.modalities) == n)
            for n in (1, 3, 5)
        )
        made += [
            (f"three minus one, {text}", three, one),
            (f"five minus three, {text}", five, three),
            (f"five minus one, {text}", five, one),
        ]
    return made
