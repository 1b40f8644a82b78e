"""C4: what do more pairs do, to the mean and to each probe?

The table of effects has each contrast for ridge and for nearest neighbours too. Regression has no
modality encoders, so a pair takes a quarter of the operations that it takes in MELT. At equal
operations it has four times the pairs.
"""

import pandas as pd

from locties_paper.design import strongest
from locties_paper.effects.effect import Contrast

STEPS = ((1 / 16, 1 / 4), (1 / 4, 1.0))


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders at given budgets."""
    single = strongest(chosen)
    shown = {"MELT": "melt", "SALT": "salt", "regression": "regression", "strongest single": single}
    made: list[Contrast] = [
        (f"{text}: budget {more:g} minus {less:g}", f"{name}@{more:g}", f"{name}@{less:g}")
        for text, name in shown.items()
        for less, more in STEPS
    ]
    for budget in (1 / 16, 1 / 4, 1.0):
        made.append(
            (
                f"MELT minus strongest single, both at budget {budget:g}",
                f"melt@{budget:g}",
                f"{single}@{budget:g}",
            )
        )
    for less, more in STEPS:
        made.append(
            (
                f"regression at budget {more:g} minus MELT at {less:g}, equal operations",
                f"regression@{more:g}",
                f"melt@{less:g}",
            )
        )
    return made
