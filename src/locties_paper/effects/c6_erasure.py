"""C6: what does alignment erase of what modalities do not share?

Two answers. `contrasts` compare location encoders on targets that one modality alone holds: joint
training against training on that modality alone, an untrained encoder and the modality's own
values. `erasure` is about the embeddings of modality encoders: the change of R², as training goes
on, against two references. Untrained encoders lose content by chance, and any training helps them.
Encoders that were trained equally long for content alone, without tying, show what such a network
could hold.
"""

from collections.abc import Iterator

import pandas as pd

from locties_paper.design import FIVE
from locties_paper.effects.effect import Contrast, interval
from locties_paper.own_targets import modality_of
from locties_paper.sweeps import BEST, JOINT, RASTERS, without

PARTS = ("private", "shared")
COLUMNS = ["source", "part", "reference", "trained", "alignment", "value", "low", "high", "seeds"]
OWN_TARGETS = "own targets"


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders in `groups`."""
    best = ("MELT", "melt"), ("SALT", "salt"), ("regression", "regression")
    made: list[Contrast] = [
        (f"{text} minus {reference}", f"{name}@{BEST[name]:g}", reference)
        for text, name in best
        for reference in ("own values", "other values")
    ]
    for text, name in best[:2]:
        title = f"{text} minus single, each at its best budget"
        made.append((title, f"{name}@{BEST[name]:g}", "single"))
    for budget in JOINT:
        for text, name in best:
            single = "regression on one" if name == "regression" else "single"
            for title, other in (
                (single, f"{single}@{budget / len(FIVE):g}"),
                ("untrained", "untrained"),
            ):
                made.append(
                    (f"{text} minus {title}, budget {budget:g}", f"{name}@{budget:g}", other)
                )
    return made


def groups(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of all own targets, then those of each modality, by title of the group.

    On the targets of a modality, "single" is the contrastive encoder trained on it alone,
    "regression on one" that of regression, "own values" are its values and "other values" those of
    the other rasters.

    Args:
        rows: of the sweep ``own``, from `read_rows`.
    """
    parts = {f"{OWN_TARGETS}, {name}": _named(rows, name) for name in FIVE}
    whole = pd.concat(parts.values())
    tasks = whole.groupby(["encoder", "draw"])["task"].transform("nunique")
    yield OWN_TARGETS, whole[tasks == whole["task"].nunique()]  # a draw may not be finished
    yield from parts.items()


def _named(rows: pd.DataFrame, modality: str) -> pd.DataFrame:
    """The rows of a modality's own targets, with contenders named after their part there."""
    mine = rows[rows["task"].map(modality_of) == modality]
    others = without("raw", [modality]) if modality in RASTERS else "raw"
    names = {f"raw-only-{modality}": "own values", others: "other values"}
    names[f"clip-{modality}@{BEST[f'clip-{modality}']:g}"] = "single"
    part = mine["encoder"].replace(names)
    for trained, title in (("clip", "single"), ("regression", "regression on one")):
        part = part.str.replace(f"{trained}-{modality}@", f"{title}@", regex=False)
    return mine.assign(encoder=part)


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
