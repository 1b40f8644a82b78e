"""A test of the claim that alignment erases what modalities do not share."""

import math
from typing import Any, Literal, NamedTuple

import pandas as pd

from locties.evaluation.statistics import Interval, mean_interval

Case = tuple[float, float]  # weight of fidelity, and the part of all pairs trained on
MARGIN = 0.05  # in R²
SEEDS = 10  # for a verdict
STATISTICS = {
    "erasure": "the fall of private content",
    "selectivity": "the fall of private content less that of shared",
}


def interval_of(values: pd.Series) -> Interval:
    """`mean_interval`, but NaN ends for a single value and NaN throughout for none."""
    if len(values) > 1:
        return mean_interval(values)
    return Interval(float(values.mean()), math.nan, math.nan)


def text_of(interval: Interval, form: str) -> str:
    """The mean, and the ends if they are known."""
    if math.isnan(interval.mean):
        return "none"
    mean, low, high = (format(number, form) for number in interval)
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


class Verdict(NamedTuple):
    """A verdict and the statistics behind it.

    Attributes:
        verdict: of the two statistics together.
        decisive: "erasure" or "selectivity".
        intervals: of both, by name.
        n: number of seeds.
    """

    verdict: Literal["supported", "refuted", "undecided"]
    decisive: str
    intervals: dict[str, Interval]
    n: int

    @property
    def summary(self) -> str:
        """The verdict, and the statistic that decides it."""
        name = self.decisive
        return (
            f"{self.verdict} ({name}, {STATISTICS[name]}: {text_of(self.intervals[name], '+.3f')})"
        )


def verdict(table: pd.DataFrame, margin: float = MARGIN) -> Verdict:
    """Whether alignment erases what modalities do not share.

    For each seed, take the mean over modalities of the R² read from modality embeddings, for
    private and for shared content, before tying (untrained encoders) and after. Two statistics are
    paired by seed:

    - *erasure*: the fall of private R²;
    - *selectivity*: erasure minus the fall of shared R². An encoder that loses everything equally
      has no selectivity.

    Each has a 95% t-interval over seeds. Supported: both lower ends are above `margin`. This is
    wrong in at most 2.5% of cases, since both must pass (intersection-union). Refuted: an upper end
    is below the margin. This is wrong in at most 5%, since either is enough (Bonferroni).
    Otherwise, and with fewer than ten seeds, undecided. The decisive statistic has the lowest upper
    end if the claim is refuted, else the lowest lower end.

    The margin was fixed after a pilot of one seed and never moved. The intervals and the rule of
    ten seeds followed two more trials of few seeds. All came before any published run.

    Args:
        table: columns seed, modality, part ("private" or "shared"), stage ("before" or "after"),
            r2; one row for each combination.
        margin: the smallest fall in R² that counts.
    """
    cells = table[["seed", "modality", "part", "stage"]].drop_duplicates()
    known = cells["part"].isin(["private", "shared"]) & cells["stage"].isin(["before", "after"])
    wanted = table["seed"].nunique() * table["modality"].nunique() * 4
    if not known.all() or not len(table) == len(cells) == wanted:
        raise ValueError(
            "the test needs one row for each seed, modality, part (private, shared) and stage "
            f"(before, after), which are {wanted}: there are {len(table)} rows of {len(cells)} "
            "combinations"
        )
    means = table.pivot_table("r2", ["seed", "part"], "stage")
    fall = (means["before"] - means["after"]).rename("fall").reset_index()
    fall = fall.pivot_table("fall", "seed", "part")
    intervals = {
        "erasure": interval_of(fall["private"]),
        "selectivity": interval_of(fall["private"] - fall["shared"]),
    }
    refuted = any(interval.high < margin for interval in intervals.values())
    decisive = min(
        intervals, key=lambda name: intervals[name].high if refuted else intervals[name].low
    )
    supported = intervals[decisive].low > margin
    judged: Any = "refuted" if refuted else "supported" if supported else "undecided"
    return Verdict(judged if len(fall) >= SEEDS else "undecided", decisive, intervals, len(fall))


def compare(readings: pd.DataFrame, after: Case = (0.0, 1.0), before: Case = (0.0, 0.0)) -> Verdict:
    """`verdict` on some encoders compared with others of the same seeds.

    Args:
        readings: one row for each seed, run, modality, source and part: columns seed, weight (of
            fidelity), trained (share of all pairs; 0 is untrained), and those of `Privacy.read`.
        after: weight and trained of the encoders to judge; by default aligned on all pairs.
        before: the same of the encoders to compare with; by default untrained. (1.0, 1.0) is
            training for content alone.
    """
    read = readings.query("source == 'modality' and part in ('private', 'shared')")
    stages = {before: "before", after: "after"}
    cases = zip(read["weight"], read["trained"], strict=True)
    read = read.assign(stage=[stages.get(case, "") for case in cases])
    return verdict(read[read["stage"] != ""])
