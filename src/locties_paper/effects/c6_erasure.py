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
RUN = ["weight", "trained", "alignment"]
COLUMNS = ["source", "part", "reference", *RUN, "value", "low", "high", "seeds"]
OWN_TARGETS = "own targets"
VALUES = ("own values", "other values")
# What is trained on one modality alone, and the joint training with the same objective.
JOINT_BY_KIND = {
    "single": {"MELT": "melt", "SALT": "salt"},
    "regression on one": {"regression": "regression"},
}


def contrasts(chosen: pd.DataFrame) -> list[Contrast]:
    """What is compared: a description, and the names of two contenders in `groups`.

    At a budget of joint training, a modality alone has the pairs that it has there. With about
    equal pairs in all, it has four times as many.
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
    """The R² of content in aligned encoders minus that in a reference, with intervals over seeds.

    Args:
        rows: of ``erasure.parquet``, which ``book/erasure.ipynb`` makes.

    Returns:
        Columns `COLUMNS`; source is the embedding of the "modality" or the "location", weight that
        of fidelity in the loss, trained the length of the run, and alignment its mean recall at 10
        of held-out samples.
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
