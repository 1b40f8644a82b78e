"""What a fidelity term keeps, compared with plain alignment of equal strength."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from locties.evaluation.statistics import Interval
from locties_paper.erasure.verdict import interval_of, text_of

CONTENT = {"private": "private content", "contrast": "private contrast", "shared": "shared content"}
PRIVATE_LESS_SHARED = "private less shared"


def gain_at_equal_alignment(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Relative gain of each fidelity run over plain alignment of equal strength.

    Plain alignment with a shorter training is weaker and may keep more content. So each fidelity
    run is compared with the plain runs of its seed, interpolated to its own alignment. Runs outside
    the range of the plain runs have no row.

    Args:
        table: one row for each run: seed, weight (0 for plain alignment), alignment (greater is
            more) and `value`.
        value: the column to compare, such as a mean R² of private content.

    Returns:
        Columns seed, weight, alignment, value, plain (at that alignment) and gain (relative).

    Example:
        >>> table = pd.DataFrame({"seed": 0, "weight": [0, 0, 0.5], "alignment": [1.0, 2.0, 1.5],
        ...                       "r2": [0.4, 0.2, 0.33]})
        >>> gain_at_equal_alignment(table, "r2")[["plain", "gain"]].round(3).to_numpy().tolist()
        [[0.3, 0.1]]
    """
    rows = []
    for seed, runs in table.groupby("seed"):
        plain = runs[runs["weight"] == 0].sort_values("alignment")
        known = plain["alignment"].to_numpy()
        for run in runs[runs["weight"] > 0].itertuples():
            if known.min() <= run.alignment <= known.max():
                base = float(np.interp(run.alignment, known, plain[value]))
                rows.append(
                    {
                        "seed": seed,
                        "weight": run.weight,
                        "alignment": run.alignment,
                        "value": getattr(run, value),
                        "plain": base,
                        "gain": getattr(run, value) / base - 1,
                    }
                )
    return pd.DataFrame(rows, columns=["seed", "weight", "alignment", "value", "plain", "gain"])


def trade_off(readings: pd.DataFrame) -> pd.DataFrame:
    """The alignment of each run and the R² of each part of content, means over modalities.

    Args:
        readings: as for `locties_paper.erasure.verdict.compare`, with a column alignment.

    Returns:
        One row for each trained run with alignment in its loss: seed, weight, trained, alignment,
        and a column for each part, read from modality embeddings.
    """
    runs = readings.query("source == 'modality' and trained > 0 and weight < 1")
    runs = runs.pivot_table("r2", ["seed", "weight", "trained", "alignment"], "part")
    return runs.reset_index().rename_axis(columns=None)


class Gains(NamedTuple):
    """Gain of fidelity at equal alignment, by kind of content, as means over seeds.

    The kinds are private, contrast and shared, and "private less shared", paired by seed.

    Attributes:
        relative: by kind; 0.1 is a tenth more than plain alignment keeps. 95% intervals; NaN
            without seeds.
        r2: the same as differences of R².
        compared: number of fidelity runs with a plain run to compare with.
        runs: number of all fidelity runs.
        seeds: number of seeds of the runs compared.
    """

    relative: dict[str, Interval]
    r2: dict[str, Interval]
    compared: int
    runs: int
    seeds: int

    @property
    def table(self) -> pd.DataFrame:
        """A row for each kind, as text: "relative gain", "gain in R²" and "compared"."""
        shown = {
            "relative gain": {kind: text_of(gain, "+.1%") for kind, gain in self.relative.items()},
            "gain in R²": {kind: text_of(gain, "+.3f") for kind, gain in self.r2.items()},
        }
        return pd.DataFrame(shown).assign(compared=f"{self.compared} of {self.runs}")

    @property
    def summary(self) -> str:
        """The relative gains as a clause, also for one seed or none."""
        had = f"{self.compared} of {self.runs} fidelity runs were aligned between plain runs of "
        had += "their seed"
        if not self.seeds:
            return f"{had}, so nothing can be compared"
        private, contrast, shared = (
            f"{name} by {text_of(self.relative[kind], '+.1%')}" for kind, name in CONTENT.items()
        )
        seeds = f"over {self.seeds} seeds" if self.seeds > 1 else "for this one seed"
        return f"{had}; there fidelity changes {private}, {contrast} and {shared}, {seeds}"

    @property
    def specific(self) -> str:
        """Whether private content gains more R² than shared content, as a clause.

        "Hardly" means that private content gains little more than shared content: even at the upper
        end, the excess is below half of the private gain.
        """
        extra = self.r2[PRIVATE_LESS_SHARED]
        if extra.low > 0:
            return "a part of the gain is specific to what modalities do not share"
        if extra.high < 0:
            return "what modalities do not share gains less than what they do"
        if extra.high < self.r2["private"].mean / 2:
            return "the gain is hardly specific to what modalities do not share"
        return "these runs cannot tell whether the gain is specific to what modalities do not share"


def gains(readings: pd.DataFrame) -> Gains:
    """`gain_at_equal_alignment` by kind of content: means over the runs of a seed, then over seeds.

    `readings` are as for `trade_off`, with parts private, contrast and shared.
    """
    runs = trade_off(readings)
    compared = {kind: gain_at_equal_alignment(runs, kind) for kind in CONTENT}
    seeds = {
        kind: table.assign(r2=table["value"] - table["plain"])
        .groupby("seed")[["gain", "r2"]]
        .mean()
        for kind, table in compared.items()
    }
    seeds[PRIVATE_LESS_SHARED] = seeds["private"] - seeds["shared"]
    return Gains(
        {kind: interval_of(table["gain"]) for kind, table in seeds.items()},
        {kind: interval_of(table["r2"]) for kind, table in seeds.items()},
        len(compared["private"]),
        int((runs["weight"] > 0).sum()),
        len(seeds["private"]),
    )
