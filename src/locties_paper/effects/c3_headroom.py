"""C3: which choice leaves most to gain: encoder, objective, modalities, budget or reading?

One default: MELT on five modalities, harmonics of degree 10 and a SIREN, at its best budget. One
thing is changed at a time, to the level that is best on pilot places.
"""

import pandas as pd

from locties_paper.design import FIVE, HARMONICS
from locties_paper.effects.effect import Contrast

CROSSED = "nt_xent-harmonics_10-siren"


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    best = chosen.set_index("contender")["value"]
    modalities = str(best[best.index.str.startswith("melt-")].idxmax())
    return [
        ("modalities: the best set of fewer", modalities, "melt"),
        ("objective: regression", "regression", "melt"),
        ("budget: its best minus equal pairs", "melt", "melt@1"),
        ("reading: harmonics beside", f"melt{HARMONICS}", "melt"),
    ]


def crossed_contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """As above, of the encoders that are crossed with objectives."""
    best = chosen.set_index("contender")["value"]
    best = best[best.index.str.count("-") == 2]  # on all five modalities
    of = {
        objective: str(best[best.index.str.startswith(f"{objective}-")].idxmax())
        for objective in ("nt_xent", "regression")
    }
    default = CROSSED.replace("nt_xent", "regression")
    made: list[Contrast] = [
        ("encoder, under contrast", of["nt_xent"], CROSSED),
        ("objective, with the default encoder", default, CROSSED),
        ("encoder, under regression", of["regression"], default),
        ("encoder and objective", of["regression"], CROSSED),
    ]
    for name in best.index:
        first = CROSSED if name.startswith("nt_xent") else default
        if name != first:
            made.append((f"{name} minus the default encoder", str(name), first))
    for objective in ("nt_xent", "regression"):
        five = f"{objective}-hash_grid-residual"
        made.append((f"{five}: five minus one", five, tuple(f"{five}-{name}" for name in FIVE)))
    return made
