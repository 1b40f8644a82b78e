"""C6: what does alignment erase of what modalities do not share?

There are two answers. `contrasts` is about location encoders, on targets that only one modality
holds. It compares joint training with training on that modality alone, with an untrained encoder
and with the modality's own values. `erasure` is about encoders of modalities. It compares their R²
with two references as training goes on. Untrained encoders lose content by chance, and any training
helps them. Encoders trained equally long for content alone, without alignment, show what such a
network could hold.
"""

from collections.abc import Iterator

import pandas as pd

from locties_paper.design import FIVE
from locties_paper.effects.effect import Contrast, interval
from locties_paper.own_targets import modality_of
from locties_paper.sweeps import BEST, JOINT, RASTERS, without

PARTS = ("private", "shared")
RUN = ["weight", "trained", "alignment"]
COLUMNS = ["source", "part", "reference", *RUN, "value", "low", "high", "seeds"]
OWN_TARGETS = "own targets"
VALUES = ("own values", "other values")
# By the name of training on one modality alone: joint training with the same objective.
JOINT_BY_KIND = {
    "single": {"MELT": "melt", "SALT": "salt"},
    "regression on one": {"regression": "regression"},
}


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders in `groups`.

    At equal budgets, one modality alone is trained on as many of its pairs as joint training has.
    At about equal pairs in all, it is trained on four times as many.
    """
    made: list[Contrast] = []
    for kind, joint in JOINT_BY_KIND.items():
        for text, name in joint.items():
            best = f"{name}@{BEST[name]:g}"
            made += [(f"{text} minus {values}", best, values) for values in VALUES]
            if kind == "single":
                made.append((f"{text} minus single, each at its best budget", best, kind))
            made.append(
                (
                    f"{text} minus {kind}, about equal pairs",
                    f"{name}@{JOINT[-2]:g}",
                    f"{kind}@{JOINT[-1] / len(FIVE):g}",
                )
            )
        for budget in JOINT:
            alone, at = f"{kind}@{budget / len(FIVE):g}", f"budget {budget:g}"
            for text, name in joint.items():
                given = f"{name}@{budget:g}"
                made.append((f"{text} minus {kind}, {at}", given, alone))
                made.append((f"{text} minus untrained, {at}", given, "untrained"))
            made.append((f"{kind} minus untrained, {at}", alone, "untrained"))
    return made


def groups(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of all own targets, then those of each modality, by title of the group.

    On the targets of a modality, "single" is the encoder trained on it alone by contrast, and
    "regression on one" the one trained on it alone by regression. "own values" are the values of
    the modality, and "other values" the values of the other rasters.

    Args:
        rows: of the sweep ``own``, from `read_rows`.
    """
    parts = {f"{OWN_TARGETS}, {name}": _named(rows, name) for name in FIVE}
    whole = pd.concat(parts.values())
    tasks = whole.groupby(["encoder", "draw"])["task"].transform("nunique")
    yield OWN_TARGETS, whole[tasks == whole["task"].nunique()]  # a draw may not be finished
    yield from parts.items()


def _named(rows: pd.DataFrame, modality: str) -> pd.DataFrame:
    """The rows of a modality's own targets, with contenders renamed as `groups` says."""
    mine = rows[rows["task"].map(modality_of) == modality]
    others = without("raw", [modality]) if modality in RASTERS else "raw"
    names = {f"raw-only-{modality}": "own values", others: "other values"}
    names[f"clip-{modality}@{BEST[f'clip-{modality}']:g}"] = "single"
    part = mine["encoder"].replace(names)
    for trained, title in (("clip", "single"), ("regression", "regression on one")):
        part = part.str.replace(f"{trained}-{modality}@", f"{title}@", regex=False)
    return mine.assign(encoder=part)


def erasure(rows: pd.DataFrame) -> pd.DataFrame:
    """The R² of content in aligned encoders minus that in a reference, with intervals over seeds.

    Args:
        rows: of ``erasure.parquet``, which ``book/erasure.ipynb`` makes.

    Returns:
        Columns `COLUMNS`; source is "modality" or "location", whose embedding is read; weight is
        the weight of fidelity in the loss; trained is the length of the run; alignment is the mean
        recall at 10 of held-out samples.
    """
    shown = rows[rows["part"].isin(PARTS)]
    runs = shown.pivot_table("r2", ["source", "part", "seed"], ["weight", "trained"])
    aligned = rows[(rows["weight"] < 1) & (rows["trained"] > 0)]
    alignment = aligned.groupby(["weight", "trained"])["alignment"].mean()
    found = []
    for reference, column in (("untrained", (0.0, 0.0)), ("content alone", (1.0, 1.0))):
        for run, recall in alignment.items():
            change = runs[run] - runs[column]
            for (source, part), own in change.groupby(["source", "part"]):
                ends = interval(own.to_numpy(), own.mean())
                found.append((source, part, reference, *run, recall, own.mean(), *ends, len(own)))
    return pd.DataFrame(found, columns=COLUMNS)
