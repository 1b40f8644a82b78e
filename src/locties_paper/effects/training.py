"""Is training worth anything? Against the same encoder untrained, and against the raw values."""

import pandas as pd

from locties_paper.design import HARMONICS, strongest
from locties_paper.effects.effect import Contrast


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    both, raw = f"+raw{HARMONICS}", f"raw{HARMONICS}"
    return [
        ("MELT minus untrained", "melt", "untrained"),
        ("SALT minus untrained", "salt", "untrained"),
        ("strongest single minus untrained", strongest(chosen), "untrained"),
        ("regression minus untrained", "regression", "untrained"),
        ("MELT minus raw values", "melt", "raw"),
        ("SALT minus raw values", "salt", "raw"),
        ("regression minus raw values", "regression", "raw"),
        ("MELT minus regression", "melt", "regression"),
        ("MELT minus GeoCLIP", "melt", "geoclip"),
        ("regression minus GeoCLIP", "regression", "geoclip"),
        ("MELT joined with raw values minus raw values", f"melt{both}", raw),
        ("regression joined with raw values minus raw values", f"regression{both}", raw),
        ("untrained joined with raw values minus raw values", f"untrained{both}", raw),
        ("MELT joined with raw values minus untrained joined", f"melt{both}", f"untrained{both}"),
    ]
