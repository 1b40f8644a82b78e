"""Is training worth anything? Against the same encoder untrained, and against the raw values."""

import pandas as pd

from locties_paper.design import strongest
from locties_paper.effects.rows import HARMONICS


def contrasts(chosen: pd.DataFrame) -> list[tuple[str, str, str]]:
    """What is compared: a description, and the names of two contenders."""
    single, beside = strongest(chosen), f"+raw{HARMONICS}"
    made = [
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
    made += [(text, one + HARMONICS, other + HARMONICS) for text, one, other in made]
    joined = [("MELT", "melt"), ("regression", "regression"), ("untrained", "untrained")]
    made += [
        (f"{text} beside raw values minus raw values", name + beside, "raw" + HARMONICS)
        for text, name in joined
    ]
    return made
