"""Claim C6: alignment erases what modalities do not share."""

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
    """As `mean_interval`; one value alone has NaN for its ends, and none has NaN throughout."""
    if len(values) > 1:
        return mean_interval(values)
    return Interval(float(values.mean()), math.nan, math.nan)


def text_of(interval: Interval, form: str) -> str:
    """The mean and, where they are known, the ends."""
    if math.isnan(interval.mean):
        return "none"
    mean, low, high = (format(number, form) for number in interval)
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


class Verdict(NamedTuple):
    """A verdict with the statistics that it rests on.

    Attributes:
        verdict: of the two together.
        decisive: "erasure" or "selectivity", the one that decides.
        intervals: of both, by name.
        n: number of seeds.
    """

    verdict: Literal["supported", "refuted", "undecided"]
    decisive: str
    intervals: dict[str, Interval]
    n: int

    @property
    def summary(self) -> str:
        """The verdict, and the statistic that decides it.

        Example:
            >>> intervals = {"erasure": Interval(0.3, 0.2, 0.4)}
            >>> Verdict("supported", "erasure", intervals, 10).summary
            'supported (erasure, the fall of private content: +0.300 [+0.200, +0.400])'
        """
        name = self.decisive
        return (
            f"{self.verdict} ({name}, {STATISTICS[name]}: {text_of(self.intervals[name], '+.3f')})"
        )


def verdict(table: pd.DataFrame, margin: float = MARGIN) -> Verdict:
    """Whether alignment erases what modalities do not share.

    For each seed, take the mean over modalities of the R² read from modality embeddings, of private
    and of shared content, before tying (untrained encoders) and after. Two statistics, paired by
    seed:

    1. *erasure*: private R² before, less private R² after;
    2. *selectivity*: erasure, less the same fall of shared R². An encoder that loses everything
       alike erases nothing in particular.

    Each has a 95% t-interval over seeds. Supported where both lower ends are above `margin`: wrong
    in at most 2.5% of cases, since both have to be (intersection-union). Refuted where an upper end
    is below it: wrong in at most 5%, since either may be (Bonferroni). Otherwise, and with fewer
    than ten seeds, undecided. The statistic that decides has the lower upper end where one is below
    the margin, else the lower lower end.

    The margin was fixed after a pilot of one seed and never moved; the intervals and the rule of
    ten seeds followed two more trials of few seeds. All came before any published run.

    Args:
        table: columns seed, modality, part ("private" or "shared"), stage ("before" or "after"),
            r2; one row for each combination.
        margin: the least fall in R² that counts.
    """
    cells = table[["seed", "modality", "part", "stage"]].drop_duplicates()
    known = cells["part"].isin(["private", "shared"]) & cells["stage"].isin(["before", "after"])
    wanted = table["seed"].nunique() * table["modality"].nunique() * 4
    if not known.all() or not len(table) == len(cells) == wanted:
        raise ValueError(
            "C6 needs one row for each seed, modality, part (private, shared) and stage (before, "
            f"after), which are {wanted}: there are {len(table)} rows of {len(cells)} combinations"
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
    """`verdict` on some encoders against others of the same seeds.

    Args:
        readings: one row for each seed, run, modality, source and part: columns seed, weight (of
            fidelity), trained (the share of all pairs; 0 is untrained), and those of
            `Privacy.read`.
        after: weight and trained of the encoders judged; by default aligned on all pairs.
        before: those of the encoders they are compared with; by default untrained. (1.0, 1.0) is
            training for content alone.

    Example:
        >>> readings = pd.DataFrame(
        ...     [(0, 0.0, t, "haze", "modality", part, r2)
        ...      for t, part, r2 in [(0.0, "private", 0.5), (0.0, "shared", 0.6),
        ...                          (1.0, "private", 0.2), (1.0, "shared", 0.6)]],
        ...     columns=["seed", "weight", "trained", "modality", "source", "part", "r2"])
        >>> compare(readings).summary
        'undecided (erasure, the fall of private content: +0.300)'
    """
    read = readings.query("source == 'modality' and part in ('private', 'shared')")
    stages = {before: "before", after: "after"}
    cases = zip(read["weight"], read["trained"], strict=True)
    read = read.assign(stage=[stages.get(case, "") for case in cases])
    return verdict(read[read["stage"] != ""])
