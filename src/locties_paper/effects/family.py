"""Are the encoders to use better than coordinates, raw values, GeoCLIP and the old encoders?"""

import pandas as pd

from locties_paper.design import HARMONICS
from locties_paper.effects.effect import Contrast
from locties_paper.sweeps import FAMILY

OTHERS = {
    "harmonics": "harmonics_10",
    "raw values": f"raw{HARMONICS}",
    "GeoCLIP": f"geoclip{HARMONICS}",
    "best": f"best{HARMONICS}",
}


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders.

    The others are read beside harmonics, which is their better reading; the family is read alone.
    """
    raw = OTHERS["raw values"]
    return [
        *(
            (f"{name} minus {description}", name, other)
            for name in FAMILY
            for description, other in OTHERS.items()
        ),
        ("large joined with raw values minus raw values", f"large+{raw}", raw),
    ]
