"""C1: are MELT and SALT as good as the strongest two-modality encoder?

The strongest is chosen on pilot places. Each is at its own best budget; beside it, all are at equal
pairs.
"""

import pandas as pd

from locties_paper.design import FIVE, KINDS, strongest
from locties_paper.effects.effect import Contrast


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    single, of_kinds = strongest(chosen), strongest(chosen, KINDS)
    return [
        ("MELT minus strongest single", "melt", single),
        ("SALT minus strongest single", "salt", single),
        ("MELT minus SALT", "melt", "salt"),
        ("MELT minus single on imagery", "melt", "clip-imagery"),
        ("MELT minus strongest single, equal pairs", "melt@1", f"{single}@1"),
        ("SALT minus strongest single, equal pairs", "salt@1", f"{single}@1"),
        ("MELT minus strongest single, the paper's kinds", "melt-kinds", of_kinds),
        ("SALT minus strongest single, the paper's kinds", "salt-kinds", of_kinds),
    ]


def paper_contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """As above, with the paper's own settings, where no pilot says which single is strongest."""
    singles = tuple(f"paper-clip-{name}" for name in FIVE)
    made: list[Contrast] = [
        (f"{text} minus {other}", f"paper-{name}", names)
        for text, name in (("MELT", "melt"), ("SALT", "salt"))
        for other, names in (
            ("the mean of five singles", singles),
            ("untrained", "paper-untrained"),
        )
    ]
    made += [(f"MELT minus single on {name}", "paper-melt", f"paper-clip-{name}") for name in FIVE]
    return [*made, ("MELT minus SALT", "paper-melt", "paper-salt")]
