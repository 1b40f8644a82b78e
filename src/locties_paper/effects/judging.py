"""Claims, and the steps from p-values to a verdict that their tests share.

A verdict is *supported*, *refuted* or *undecided*. A claim is never supported because a test failed
to reject it. Tests are one-sided at 5%. Intervals of paired differences have 90% coverage, so each
end bounds one such test.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from locties.evaluation.statistics import Interval, mean_interval
from locties_paper.effects.evidence import SEEDS, Array, Setting, Tables
from locties_paper.effects.statistics import ALPHA

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
METHODS = ("melt-all", "salt-all")


class Outcome(NamedTuple):
    """A verdict and its reasons.

    Attributes:
        missing: what a verdict still needs. Anything here makes the claim undecided.
        verdict: supported, refuted or undecided.
        decisive: the row whose numbers the overall row repeats.
        rows: one for each test.
        setting: what the rows share.
        note: further remarks.
    """

    missing: list[str]
    verdict: str
    decisive: dict[str, Any]
    rows: list[dict[str, Any]]
    setting: Setting
    note: str


class Claim(NamedTuple):
    """A claim: its text, the runs and seeds that its test needs, and the test.

    `needs` gives the runs from the study's modalities.

    The book prints the test's docstring. A claim that reads no scores of tasks (`of_tasks` false)
    is judged once, not on each tier.
    """

    name: str
    text: str
    needs: Callable[[Sequence[str]], tuple[str, ...]]
    test: Callable[[Tables, Mapping[Setting, float]], Outcome]
    seeds: int = SEEDS
    of_tasks: bool = True


def two_modality_runs(modalities: Sequence[str]) -> tuple[str, ...]:
    """The runs on one modality each, from which the baseline is chosen."""
    return tuple(f"clip-{modality}" for modality in modalities)


def result_row(
    group: str, cell: str, statistic: str, interval: Interval, n: int, **more: Any
) -> dict[str, Any]:
    """A row of `verdicts`. Numbers of tests that do not apply are NaN."""
    value, low, high = interval
    names = {"group": group, "cell": cell, "verdict": "", "statistic": statistic}
    numbers = {"value": value, "low": low, "high": high, "level": 1 - 2 * ALPHA, "n": n}
    rest = dict.fromkeys(["margin", "p", "p_against", "p_better"], np.nan)
    return {**names, **numbers, **rest, **more}


def mean_row(
    group: str, cell: str, statistic: str, differences: Array, **more: Any
) -> dict[str, Any]:
    """`result_row` for the mean of differences and its 90% t-interval."""
    interval = mean_interval(differences, 1 - 2 * ALPHA)
    return result_row(group, cell, statistic, interval, len(differences), **more)


def one_sided(differences: Array, bound: float, alternative: str) -> Array:
    """p-values of t-tests over the last axis; 1 where the values do not vary."""
    p = stats.ttest_1samp(differences, bound, axis=-1, alternative=alternative).pvalue
    return np.nan_to_num(p, nan=1.0)


def cell_verdicts(missing: Sequence[str], **p: Array) -> NDArray[np.str_]:
    """For each cell, the first name whose p-value is below 5%, else "unclear"."""
    found = np.select([values < ALPHA for values in p.values()], list(p), "unclear")
    return np.full(found.shape, UNDECIDED) if missing else found


def verdict_of_all(rows: Sequence[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Verdict and decisive row of a claim that every test must support and any test can refute."""
    contrary = min(rows, key=lambda row: row["p_against"])
    if contrary["p_against"] < ALPHA:
        return REFUTED, contrary
    weakest = max(rows, key=lambda row: row["p"])
    return SUPPORTED if weakest["p"] < ALPHA else UNDECIDED, weakest


def count_verdicts(verdicts: NDArray[np.str_]) -> str:
    """The number of cells with each verdict, as text."""
    names, counts = np.unique(verdicts[verdicts != UNDECIDED], return_counts=True)
    return ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))


def join(notes: Iterable[str]) -> str:
    """The notes that are not empty, as one text."""
    return "; ".join(note for note in notes if note)
