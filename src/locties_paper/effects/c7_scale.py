"""C7: what do more pairs, larger batches and trained image encoders give?"""

import pandas as pd

from locties_paper.design import BATCH
from locties_paper.effects.effect import Contrast
from locties_paper.sweeps import SWEEPS

OBJECTIVES = ("nt_xent", "regression")
ENCODERS = ("harmonics_10-siren", "hash_grid-residual")


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders at given budgets."""
    curves = {name: each.curve for name, each in SWEEPS["scale"].contenders.items()}
    made: list[Contrast] = []
    for encoder in ENCODERS:
        for objective in OBJECTIVES:
            name = f"{objective}-{encoder}"
            least, *more = curves[name]
            made += [
                (f"{name}: budget {b:.3g} minus {least:g}", at(name, b), at(name, least))
                for b in more
            ]
    for budget in curves[f"{OBJECTIVES[0]}-{ENCODERS[0]}"]:
        for objective in OBJECTIVES:
            fine, default = (f"{objective}-{encoder}" for encoder in reversed(ENCODERS))
            made.append(
                (
                    f"{fine} minus the default encoder at budget {budget:.3g}",
                    at(fine, budget),
                    at(default, budget),
                )
            )
    batches = {name: curve[0] for name, curve in curves.items() if name.startswith("batch_")}
    usual = f"batch_{BATCH}"
    made += [
        (f"{name} minus {usual}", at(name, budget), at(usual, batches[usual]))
        for name, budget in batches.items()
        if name != usual
    ]
    for budget in curves["kinds-frozen"]:
        made.append(
            (
                f"image encoder trained minus frozen at budget {budget:g}",
                at("kinds-trained", budget),
                at("kinds-frozen", budget),
            )
        )
    return made


def main_contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """As above, of contenders of the main part at their best budgets."""
    return [("image alone: encoder trained minus frozen", "clip-imagery", "clip-imagery_frozen")]


def at(name: str, budget: float) -> str:
    """The name of a contender at a budget."""
    return f"{name}@{budget:g}"
