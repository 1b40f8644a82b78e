"""Prediction intervals and sets: CV+ and cross-conformal sets over spatial folds.

A model that has not seen a fold predicts its labels; these errors show how far predictions can be
off. If whole blocks were exchangeable, an interval would hold the true value with a probability of
at least 2 * coverage - 1, and usually about `coverage`. Real blocks are not quite exchangeable, so
`fit_map` also measures the coverage on held-out blocks.

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
            errors, or minus the score of the true class.
        sharpness: class probabilities are softmax(sharpness * scores).
    """

    fits: Columns
    importance: Any
    errors: Sequence[Array]
    coverage: float
    sharpness: float

    def predict(self, x: NDArray[Any]) -> Predictions:
        """Predictions at embeddings `(M, d)`."""
        columns, *without = self.fits(x)
        return Predictions(columns, np.stack(without), self)


@dataclass(frozen=True)
class Predictions:
    """The predictions of a `ConformalProbe` at M places.

    Attributes:
        columns: `(M, C)`: measurements, or a score for each class.
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
        """Which classes `(M, C)` each set holds; it always holds the predicted class."""
        sets = cv_plus_sets(self.without, self.probe.errors, self.probe.coverage)
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
        from scipy.special import softmax

        return np.asarray(softmax(self.probe.sharpness * self.columns, axis=1))


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
    errors, scores, truth = [], [], []
    for fit, each in enumerate(names, 1):
        here = fold == each
        scores.append(fits(x[here])[fit])
        truth.append(target[here])
        errors.append(np.sort(_errors(scores[-1], truth[-1])))
    sharpness = _sharpness(np.concatenate(scores), np.concatenate(truth))
    return ConformalProbe(fits, getattr(fits, "importance", 1.0), errors, coverage, sharpness)


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
    most = n - rank + 1  # the end is so many from the top, thus among each fold's largest
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


def _errors(columns: Array, target: NDArray[Any]) -> Array:
    if is_classification(target):
        return np.asarray(-columns[np.arange(len(target)), target])
    return np.asarray(np.abs(columns[:, 0] - target))


def _sharpness(scores: Array, target: NDArray[Any]) -> float:
    """The sharpness with the smallest log loss on held-out labels; 1 for measurements.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017).
    """
    if not is_classification(target):
        return 1.0
    from scipy.special import log_softmax

    grid = np.logspace(-1, 2, 31)
    rows = np.arange(len(target))
    gains = [log_softmax(each * scores, axis=1)[rows, target].mean() for each in grid]
    return float(grid[int(np.argmax(gains))])
