"""Does SatCLIP's probe, a small neural network, see the same differences?"""

import pandas as pd

from locties_paper.effects.effect import Contrast
from locties_paper.sweeps import SWEEPS


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    (single,) = (name for name in SWEEPS["probes"].contenders if name.startswith("clip-"))
    return [
        ("MELT minus strongest single", "melt", single),
        ("SALT minus strongest single", "salt", single),
        ("MELT minus untrained", "melt", "untrained"),
        ("regression minus MELT", "regression", "melt"),
        ("MELT minus raw values", "melt", "raw"),
        ("MELT minus GeoCLIP", "melt", "geoclip"),
    ]
