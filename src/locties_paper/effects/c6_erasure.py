"""C6: what does alignment erase of what modalities do not share?

The change of R² is given against two references. Untrained encoders lose content by chance, and any
training helps them. Encoders that were trained equally long for content alone, without tying, show
what such a network could hold.
"""

import pandas as pd

from locties_paper.effects.effect import interval

PARTS = ("private", "shared")
COLUMNS = ["source", "part", "reference", "trained", "alignment", "value", "low", "high", "seeds"]


def erasure(rows: pd.DataFrame) -> pd.DataFrame:
    """The R² of content in tied encoders minus that in a reference, with intervals over seeds.

    Args:
        rows: of ``erasure.parquet``, which ``book/erasure.ipynb`` makes.

    Returns:
        Columns `COLUMNS`; source is the embedding of the "modality" or the "location", trained the
        length of the run, and alignment its mean recall at 10 of held-out samples.
    """
    shown = rows[rows["part"].isin(PARTS)]
    wide = shown.pivot_table("r2", ["source", "part", "seed"], ["weight", "trained"])
    tied = rows[(rows["weight"] == 0) & (rows["trained"] > 0)]
    alignment = tied.groupby("trained")["alignment"].mean()
    found = []
    for reference, column in (("untrained", (0.0, 0.0)), ("content alone", (1.0, 1.0))):
        for length, aligned in alignment.items():
            change = wide[0.0, length] - wide[column]
            for (source, part), own in change.groupby(["source", "part"]):
                ends = interval(own.to_numpy(), own.mean())
                found.append(
                    (source, part, reference, length, aligned, own.mean(), *ends, len(own))
                )
    return pd.DataFrame(found, columns=COLUMNS)
