"""C2: what is a larger number of modalities worth?

One stands for the mean over all five single modalities, three for the mean over five sets of three
in which each modality occurs three times. Each run is at its own best budget.
"""

import pandas as pd

from locties_paper.design import FIVE, TRIPLES
from locties_paper.effects.effect import Contrast
from locties_paper.effects.rows import HARMONICS


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders or groups of them."""
    made: list[Contrast] = []
    for text, five, ones in (("MELT", "melt", "clip"), ("regression", "regression", "regression")):
        for beside in ("", HARMONICS):
            one = tuple(f"{ones}-{name}{beside}" for name in FIVE)
            three = tuple(f"{five}-{'-'.join(names)}{beside}" for names in TRIPLES)
            best = chosen.set_index("contender")["value"]
            best_three = best[[name.removesuffix(beside) for name in three]].idxmax()
            made += [
                (f"{text}: three minus one", three, one),
                (f"{text}: five minus three", five + beside, three),
                (f"{text}: five minus one", five + beside, one),
                (f"{text}: five minus the best three", five + beside, best_three + beside),
            ]
    return made
