"""Prediction intervals and sets: CV+ and cross-conformal sets over spatial folds.

A model that has not seen a fold predicts its labels; these errors show how far predictions can be
off. If whole blocks were exchangeable, an interval would hold the true value with a probability of
at least 2 * coverage - 1, and usually about `coverage`. Real blocks are not quite exchangeable, so
`fit_map` also measures the coverage on held-out blocks.

No set can hold a class without a label. So sets aim at `coverage` only where the true class has a
label in other blocks. A label whose class occurs in its own fold only is not used to calibrate.

Source: Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+" (Annals of
Statistics 49, 2021); Romano, Sesia and Candès, "Classification with valid and adaptive coverage"
(NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locties.evaluation.probes import PROBES, Columns, is_classification

Array = NDArray[np.float64]

LEFT_OUT = -1


@dataclass(frozen=True)
class ConformalProbe:
    """A probe fitted to all labels, and one for each fold, fitted without it.

    Attributes:
        fits: from embeddings `(M, d)` to 1 + K arrays `(M, C)`: the probe on all labels, then
            those without one fold.
        importance: importance of each feature `(d,)` in the first fit; one number if all are equal.
        errors: for each fold, the sorted errors of its labels by the probe without it: absolute
            errors, or minus the logarithm of the true class's probability.
        sharpness: class probabilities are softmax(sharpness * scores).
        known: `(1 + K, C)`, whether each fit has a label of the class; all true for measurements.
    """

    fits: Columns
    importance: Any
    errors: Sequence[Array]
    coverage: float
    sharpness: float
    known: NDArray[np.bool_]

    def predict(self, x: NDArray[Any]) -> Predictions:
        """Predictions at embeddings `(M, d)`."""
        columns, *without = _masked(self.fits(x), self.known)
        return Predictions(columns, np.stack(without), self)


@dataclass(frozen=True)
class Predictions:
    """The predictions of a `ConformalProbe` at M places.

    Attributes:
        columns: `(M, C)`: measurements; or scores of classes, -inf for a class without a label.
        without: `(K, M, C)`, the same by the probes without one fold.
    """

    columns: Array
    without: Array
    probe: ConformalProbe

    def intervals(self) -> Array:
        """Lower and upper ends `(M, 2)`; infinite with too few labels for the coverage.

        They always contain the prediction; CV+ alone does not guarantee that.
        """
        ends = cv_plus_intervals(self.without[..., 0], self.probe.errors, self.probe.coverage)
        ends[:, 0] = np.minimum(ends[:, 0], self.columns[:, 0])
        ends[:, 1] = np.maximum(ends[:, 1], self.columns[:, 0])
        return ends

    def sets(self) -> NDArray[np.bool_]:
        """Which classes `(M, C)` each set holds.

        It always holds the predicted class, and never a class without a label.
        """
        scores = log_probabilities(self.without, self.probe.sharpness)
        sets = cv_plus_sets(scores, self.probe.errors, self.probe.coverage)
        sets &= self.probe.known[0]
        sets[np.arange(len(sets)), self.columns.argmax(1)] = True
        return sets

    def hold(self, target: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each interval or set holds the true value or class `(M,)`."""
        if is_classification(target):
            return np.asarray(self.sets()[np.arange(len(target)), target])
        low, high = self.intervals().T
        return np.asarray((low <= target) & (target <= high))

    def probabilities(self) -> Array:
        """Probability of each class: `(M, C)`."""
        return np.exp(log_probabilities(self.columns, self.probe.sharpness))


def conformal_probe(
    probe: str, x: NDArray[Any], target: NDArray[Any], fold: NDArray[np.int64], coverage: float
) -> ConformalProbe:
    """Fit a probe on embeddings `(N, d)`, with intervals or sets from the folds `(N,)`.

    Rows of fold -1 are ignored: nothing is learnt from their labels.
    """
    check_coverage(coverage)
    names = sorted(set(np.unique(fold).tolist()) - {LEFT_OUT})
    without = [(LEFT_OUT,), *((LEFT_OUT, each) for each in names)]
    fits = PROBES[probe](x, [target], fold).several(without)
    known = np.stack([labelled(target, ~np.isin(fold, left_out)) for left_out in without])
    columns, truth = [], []
    for fit, each in enumerate(names, 1):
        here = fold == each
        usable = _in(known[fit], target[here])
        columns.append(_masked(fits(x[here]), known)[fit][usable])
        truth.append(target[here][usable])
    sharpness = _sharpness(np.concatenate(columns), np.concatenate(truth))
    errors = [
        np.sort(_errors(part, there, sharpness)) for part, there in zip(columns, truth, strict=True)
    ]
    importance = getattr(fits, "importance", 1.0)
    return ConformalProbe(fits, importance, errors, coverage, sharpness, known)


def labelled(target: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which classes `(C,)` have a label among these rows `(N,)`; for measurements, one True."""
    if not is_classification(target):
        return np.ones(1, bool)
    return np.bincount(target[rows], minlength=target.max() + 1) > 0


def _in(known: NDArray[np.bool_], target: NDArray[Any]) -> NDArray[np.bool_]:
    """Which labels `(N,)` have a known class; for measurements, all of them."""
    return known[target] if is_classification(target) else np.ones(len(target), bool)


def _masked(columns: Sequence[Array], known: NDArray[np.bool_]) -> list[Array]:
    """The columns of each fit, -inf for classes of which it has no label."""
    return [np.where(there, part, -np.inf) for part, there in zip(columns, known, strict=True)]


def log_probabilities(scores: Array, sharpness: float) -> Array:
    """Logarithm of the probability of each class, from scores `(..., C)`."""
    from scipy.special import log_softmax

    return np.asarray(log_softmax(sharpness * scores, axis=-1))


def cv_plus_intervals(folds: Array, errors: Sequence[Array], coverage: float) -> Array:
    """CV+ intervals `(M, 2)`.

    Args:
        folds: `(K, M)` predictions by the models without each of K folds.
        errors: for each fold's labels, their absolute errors by the model without it.
        coverage: the wanted coverage, such as 0.9.
    """
    n = sum(map(len, errors))
    rank = smallest_rank(n, coverage)
    if rank > n:
        return np.tile([-np.inf, np.inf], (folds.shape[1], 1))
    most = n - rank + 1  # the end has this rank from the top, so only each fold's largest can be it
    errors = [each[-most:] for each in errors]
    fold, error = np.repeat(np.arange(len(folds)), list(map(len, errors))), np.concatenate(errors)
    there, ends = folds.T[:, fold], []
    for sign in (-1, 1):
        reach = sign * there + error
        ends.append(sign * np.partition(reach, -most, axis=1)[:, -most])
    return np.stack(ends, axis=1)


def cv_plus_sets(folds: Array, errors: Sequence[Array], coverage: float) -> NDArray[np.bool_]:
    """Cross-conformal sets `(M, C)`.

    Args:
        folds: `(K, M, C)` scores by the models without each of K folds.
        errors: for each fold's labels, minus the score of the true class by the model without it;
            sorted.
        coverage: the wanted coverage, such as 0.9.
    """
    smaller = sum(np.searchsorted(e, -s, side="left") for e, s in zip(errors, folds, strict=True))
    return np.asarray(smaller < smallest_rank(sum(map(len, errors)), coverage))


def check_coverage(coverage: float) -> None:
    """Raise ValueError unless `coverage` is a share."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage={coverage!r}: give a share between 0 and 1, such as 0.9")


def smallest_rank(n: int, coverage: float) -> int:
    """The rank, from 1, of the error that gives the coverage; above n if n labels are too few.

    Example:
        >>> smallest_rank(9, 0.9), smallest_rank(8, 0.9)
        (9, 9)
    """
    return math.ceil(round(coverage * (n + 1), 9))


def fewest_labels(coverage: float) -> int:
    """The smallest number of labels for the coverage.

    Example:
        >>> fewest_labels(0.9), fewest_labels(0.5)
        (9, 1)
    """
    return next(n for n in range(1, 10**6) if smallest_rank(n, coverage) <= n)


def _errors(columns: Array, target: NDArray[Any], sharpness: float) -> Array:
    if is_classification(target):
        scores = log_probabilities(columns, sharpness)
        return np.asarray(-scores[np.arange(len(target)), target])
    return np.asarray(np.abs(columns[:, 0] - target))


def _sharpness(scores: Array, target: NDArray[Any]) -> float:
    """The sharpness with the smallest log loss on held-out labels; 1 for measurements.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017).
    """
    if not is_classification(target) or not len(target):
        return 1.0
    grid = np.logspace(-1, 2, 31)
    rows = np.arange(len(target))
    gains = [log_probabilities(scores, each)[rows, target].mean() for each in grid]
    return float(grid[int(np.argmax(gains))])
