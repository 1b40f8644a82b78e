"""C2: what is a larger number of modalities worth?

One stands for the mean over all five single modalities, three for the mean over five sets of three
in which each modality occurs three times. Each run is at its own best budget.
"""

import pandas as pd

from locties_paper.design import FIVE, TRIPLES
from locties_paper.effects.effect import Contrast


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
