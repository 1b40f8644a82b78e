"""Readings of made-up runs with and without fidelity."""

import math
from itertools import product

import pandas as pd

RUNS = {  # weight, trained, alignment, and R² of all content
    "untrained": (0.0, 0.0, math.nan, 0.5),
    "short": (0.0, 0.5, 0.1, 0.5),
    "plain": (0.0, 1.0, 0.3, 0.3),
    "fidelity": (0.5, 1.0, 0.2, 0.5),
    "content alone": (1.0, 1.0, 0.0, 0.9),
}


def all_readings(seeds: int = 2, lost: float = 0.2, gained: float = 0.1) -> pd.DataFrame:
    """Runs of which shared content is as in `RUNS`.

    Private content and contrast are `lost` less after plain alignment than
    shared content is, and `gained` more with fidelity.
    """
    more = {"plain": -lost, "fidelity": gained}
    rows = [
        (seed, weight, trained, alignment, modality, source, part, value)
        for seed, (run, (weight, trained, alignment, r2)) in product(range(seeds), RUNS.items())
        for part in ("private", "contrast", "shared")
        for modality, own in (("one", 0.1), ("other", -0.1))
        for source, value in (
            ("modality", r2 + own + (part != "shared") * more.get(run, 0.0)),
            ("location", -1.0),
        )
    ]
    columns = ["seed", "weight", "trained", "alignment", "modality", "source", "part", "r2"]
    return pd.DataFrame(rows, columns=columns)
