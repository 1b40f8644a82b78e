"""Is training worth anything? Against the same encoder untrained, and against the raw values."""

import pandas as pd

from locties_paper.design import strongest
from locties_paper.effects.effect import Contrast, beside
from locties_paper.effects.rows import HARMONICS


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders."""
    single, with_raw = strongest(chosen), f"+raw{HARMONICS}"
    made: list[Contrast] = [
        ("MELT minus untrained", "melt", "untrained"),
        ("SALT minus untrained", "salt", "untrained"),
        ("strongest single minus untrained", single, "untrained"),
        ("regression minus untrained", "regression", "untrained"),
        ("MELT minus raw values", "melt", "raw"),
        ("SALT minus raw values", "salt", "raw"),
        ("regression minus raw values", "regression", "raw"),
        ("MELT minus regression", "melt", "regression"),
        ("MELT minus GeoCLIP", "melt", "geoclip"),
        ("regression minus GeoCLIP", "regression", "geoclip"),
    ]
    made += [(text, beside(one, HARMONICS), beside(other, HARMONICS)) for text, one, other in made]
    joined = [("MELT", "melt"), ("regression", "regression"), ("untrained", "untrained")]
    made += [
        (f"{text} beside raw values minus raw values", name + with_raw, "raw" + HARMONICS)
        for text, name in joined
    ]
    return made
