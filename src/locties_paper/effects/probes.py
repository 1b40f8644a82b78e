"""Does SatCLIP's probe, a small neural network, see the same differences?"""

import pandas as pd

from locties_paper.effects.effect import Contrast
from locties_paper.sweeps import STRONGEST


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    return [
        ("MELT minus strongest single", "melt", STRONGEST),
        ("SALT minus strongest single", "salt", STRONGEST),
        ("MELT minus untrained", "melt", "untrained"),
        ("regression minus MELT", "regression", "melt"),
        ("MELT minus raw values", "melt", "raw"),
        ("MELT minus GeoCLIP", "melt", "geoclip"),
    ]
